# From class names and images to features.


localrules:
    fetch_backbone,


rule fetch_backbone:
    input:
        # A file of weights of one's own; nothing for a tag, which is downloaded.
        lambda wildcards: PLAN.backbone_of(**wildcards).weights_file or [],
    output:
        weights=paths.WEIGHTS,
        receipt=receipt_of(paths.WEIGHTS),
    log:
        "logs/fetch_backbone/{weights}.log",
    wildcard_constraints:
        weights=matching(PLAN.fetched_weights),
    conda:
        "../../environment.yml"
    resources:
        downloads=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.fetching_memory(**wildcards),
        runtime=120,
    params:
        name=lambda wildcards: PLAN.backbone_of(**wildcards).name,
        pretrained=lambda wildcards: PLAN.backbone_of(**wildcards).pretrained,
        file=lambda wildcards: PLAN.architecture_file(**wildcards),
        architecture=lambda wildcards: PLAN.architecture(**wildcards),
        code=code_of("fetch_backbone"),
    message:
        "Fetching the weights of {wildcards.weights}"
    script:
        "../scripts/fetch_backbone.py"


rule extract_texts:
    input:
        unpack(inputs_of(PLAN.extract_texts)),
    output:
        features=paths.TEXTS,
        receipt=receipt_of(paths.TEXTS),
    log:
        "logs/extract_texts/{backbone}/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grown(PLAN.extract_texts, "memory"),
        runtime=grown(PLAN.extract_texts, "minutes"),
    params:
        backbone=of(PLAN.extract_texts, "building"),
        architecture=of(PLAN.extract_texts, "architecture"),
        templates=of(PLAN.extract_texts, "templates"),
        code=code_of("extract_texts"),
    message:
        "Reading the class names of {wildcards.dataset} ({wildcards.backbone})"
    script:
        "../scripts/extract_texts.py"


rule extract_shots:
    input:
        unpack(inputs_of(PLAN.extract_shots)),
    output:
        features=paths.SHOT_FEATURES,
        receipt=receipt_of(paths.SHOT_FEATURES),
    log:
        "logs/extract_shots/{backbone}/{dataset}/{views}/{shots}shot-seed{seed}.log",
    wildcard_constraints:
        views=matching([PLAN.experiment.views.folder]),
    conda:
        "../../environment.yml"
    threads: of(PLAN.extract_shots, "threads")
    resources:
        gpu=PLAN.gpus,
        mem_mb=grown(PLAN.extract_shots, "memory"),
        runtime=grown(PLAN.extract_shots, "minutes"),
    params:
        backbone=of(PLAN.extract_shots, "building"),
        architecture=of(PLAN.extract_shots, "architecture"),
        images=of(PLAN.extract_shots, "images"),
        views=PLAN.experiment.views.model_dump(),
        code=code_of("extract_shots"),
    message:
        "Extracting the features of {wildcards.dataset}: {wildcards.shots} shots, seed {wildcards.seed} ({wildcards.backbone})"
    script:
        "../scripts/extract_shots.py"


rule extract_test:
    input:
        unpack(inputs_of(PLAN.extract_test)),
    output:
        features=paths.TEST_FEATURES,
        receipt=receipt_of(paths.TEST_FEATURES),
    log:
        "logs/extract_test/{backbone}/{dataset}/{part}.log",
    wildcard_constraints:
        part=r"test(-\d+of\d+)?",
    conda:
        "../../environment.yml"
    threads: of(PLAN.extract_test, "threads")
    resources:
        gpu=PLAN.gpus,
        mem_mb=grown(PLAN.extract_test, "memory"),
        runtime=grown(PLAN.extract_test, "minutes"),
    params:
        backbone=of(PLAN.extract_test, "building"),
        architecture=of(PLAN.extract_test, "architecture"),
        images=of(PLAN.extract_test, "images"),
        shard=of(PLAN.extract_test, "shard"),
        code=code_of("extract_test"),
    message:
        "Extracting the features of {wildcards.dataset}'s test images ({wildcards.backbone}, {wildcards.part})"
    script:
        "../scripts/extract_test.py"
