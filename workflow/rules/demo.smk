# What the embedded experiment makes in place of downloads.


localrules:
    draw_dataset,


rule pretrain_backbone:
    input:
        trained=ancient(paths.find_own(paths.TRAINED_GLYPHS)),
    output:
        weights=paths.WEIGHTS,
        receipt=receipt_of(paths.WEIGHTS),
    log:
        "logs/pretrain_backbone/{weights}.log",
    wildcard_constraints:
        weights=any_of(PLAN.made_weights),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        **params_of(jobs.fetch_backbone, "file", "architecture"),
        steps=1500,  # these three as in vtclip/demo/pretrain.py, or a new CLIP is trained
        learning_rate=7e-4,
        seed=0,
        code=code_of("pretrain_backbone"),
    message:
        "Making the small CLIP that was pre-trained on rendered glyphs"
    script:
        "../scripts/pretrain_backbone.py"


rule draw_dataset:
    output:
        paths.IMAGES_RECEIPT,
    log:
        "logs/draw_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(PLAN.drawn),
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
