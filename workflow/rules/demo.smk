# What the embedded experiment makes in place of downloads.


rule pretrain_backbone:
    input:
        "config/backbones/glyph-clip.json",
    output:
        "resources/backbones/glyph-clip.safetensors",
    log:
        "logs/pretrain_backbone/glyph-clip.log",
    benchmark:
        "results/benchmarks/pretrain_backbone/glyph-clip.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        steps=1500,
        learning_rate=7e-4,
        seed=0,
        code=code_of("pretrain_backbone", "vtclip.demo.pretrain"),
    message:
        "Pre-training the small CLIP on rendered glyphs"
    script:
        "../scripts/pretrain_backbone.py"


rule draw_dataset:
    output:
        "resources/images/{dataset}.json",
    log:
        "logs/draw_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/draw_dataset/{dataset}.tsv"
    wildcard_constraints:
        dataset=names_of(lambda dataset: dataset.drawn),
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        name=lambda wildcards: DATASETS[wildcards.dataset].drawn,
        folder="resources/images/{dataset}",
        seed=0,
        code=code_of("draw_dataset", "vtclip.demo.datasets"),
    message:
        "Drawing the embedded dataset {wildcards.dataset}"
    script:
        "../scripts/draw_dataset.py"
