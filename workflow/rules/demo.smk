# What the embedded experiment makes in place of downloads.


localrules:
    draw_dataset,


rule pretrain_backbone:
    output:
        weights=paths.WEIGHTS,
        receipt=receipt_of(paths.WEIGHTS),
    log:
        "logs/pretrain_backbone/{weights}.log",
    benchmark:
        "results/benchmarks/pretrain_backbone/{weights}.tsv"
    wildcard_constraints:
        weights=matching(PLAN.drawn_weights),
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        file=lambda wildcards: PLAN.architecture_file(**wildcards),
        architecture=lambda wildcards: PLAN.architecture(**wildcards),
        steps=1500,
        learning_rate=7e-4,
        seed=0,
        code=code_of("pretrain_backbone"),
    message:
        "Pre-training the small CLIP on rendered glyphs"
    script:
        "../scripts/pretrain_backbone.py"


rule draw_dataset:
    output:
        paths.IMAGES_RECEIPT,
    log:
        "logs/draw_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/draw_dataset/{dataset}.tsv"
    wildcard_constraints:
        dataset=matching(PLAN.drawn),
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        name=lambda wildcards: PLAN.datasets[wildcards.dataset].drawn,
        folder=paths.IMAGES,
        seed=0,
        code=code_of("draw_dataset"),
    message:
        "Drawing the embedded dataset {wildcards.dataset}"
    script:
        "../scripts/draw_dataset.py"
