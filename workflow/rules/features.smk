# From class names and images to features.


localrules:
    fetch_backbone,


rule fetch_backbone:
    input:
        # A user's file of weights; nothing for a tag, which is downloaded.
        weights_file=from_plan(jobs.fetch_backbone, "inputs", "weights_file"),
    output:
        weights=paths.WEIGHTS,
        receipt=receipt_of(paths.WEIGHTS),
    log:
        "logs/fetch_backbone/{weights}.log",
    wildcard_constraints:
        weights=any_of(PLAN.fetched_weights),
    conda:
        "../../environment.yml"
    resources:
        **requests_of(jobs.fetch_backbone),
        downloads=1,
    params:
        **params_of(
            jobs.fetch_backbone, "name", "pretrained", "weights_key", "file", "architecture"
        ),
        code=code_of("fetch_backbone"),
    message:
        "Fetching the weights of {wildcards.weights}"
    script:
        "../scripts/fetch_backbone.py"


rule extract_texts:
    input:
        weights=tracked_by_checksum(jobs.extract_texts, "weights"),
        manifest=tracked_by_checksum(paths.MANIFEST),
        receipts=from_plan(jobs.extract_texts, "receipts"),
        # Sentences about the classes: the receipt of a file that is fetched, or a user's file.
        descriptions=from_plan(jobs.extract_texts, "inputs", "descriptions"),
    output:
        features=PLAN.texts_of("{backbone}", "{dataset}"),
        receipt=receipt_of(PLAN.texts_of("{backbone}", "{dataset}")),
    log:
        "logs/extract_texts/{backbone}/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        **requests_of(jobs.extract_texts),
    params:
        **params_of(
            jobs.extract_texts, "backbone", "architecture", "templates", "sentences", "exif"
        ),
        code=code_of("extract_texts"),
    message:
        "Reading the class names of {wildcards.dataset} ({wildcards.backbone})"
    script:
        "../scripts/extract_texts.py"


rule extract_shots:
    input:
        weights=tracked_by_checksum(jobs.extract_shots, "weights"),
        receipts=from_plan(jobs.extract_shots, "receipts"),
        shots=PATHS.samples,
    output:
        features=PATHS.shot_features,
        receipt=receipt_of(PATHS.shot_features),
    log:
        "logs/extract_shots/{backbone}/{dataset}/{views}/{shots}shot-seed{seed}.log",
    wildcard_constraints:
        views=any_of([PLAN.experiment.views.folder]),
    conda:
        "../../environment.yml"
    threads: from_plan(jobs.extract_shots, "threads")
    resources:
        **requests_of(jobs.extract_shots),
    params:
        **params_of(jobs.extract_shots, "backbone", "architecture", "images", "exif"),
        views=PLAN.experiment.views.model_dump(),
        code=code_of("extract_shots"),
    message:
        "Extracting the features of {wildcards.dataset}: {wildcards.shots}-shot, seed {wildcards.seed} ({wildcards.backbone})"
    script:
        "../scripts/extract_shots.py"


# The images of one fold, which are encoded once for all heads.
rule extract_fold:
    input:
        weights=tracked_by_checksum(jobs.extract_fold, "weights"),
        manifest=tracked_by_checksum(paths.MANIFEST),
        receipts=from_plan(jobs.extract_fold, "receipts"),
    output:
        features=paths.FOLD_FEATURES,
        receipt=receipt_of(paths.FOLD_FEATURES),
    log:
        "logs/extract_fold/{backbone}/{dataset}/{views}/fold-{fold}of{folds}.log",
    wildcard_constraints:
        views=any_of([PLAN.experiment.views.folder]),
        fold=r"\d+",
        folds=r"\d+",
    conda:
        "../../environment.yml"
    threads: from_plan(jobs.extract_fold, "threads")
    resources:
        **requests_of(jobs.extract_fold),
    params:
        **params_of(jobs.extract_fold, "backbone", "architecture", "images", "exif"),
        views=PLAN.experiment.views.model_dump(),
        code=code_of("extract_fold"),
    message:
        "Extracting the features of {wildcards.dataset}: fold {wildcards.fold} of {wildcards.folds} ({wildcards.backbone})"
    script:
        "../scripts/extract_fold.py"


rule extract_validation:
    input:
        weights=tracked_by_checksum(jobs.extract_validation, "weights"),
        manifest=tracked_by_checksum(paths.MANIFEST),
        receipts=from_plan(jobs.extract_validation, "receipts"),
    output:
        features=paths.VAL_FEATURES,
        receipt=receipt_of(paths.VAL_FEATURES),
    log:
        "logs/extract_validation/{backbone}/{dataset}.log",
    conda:
        "../../environment.yml"
    threads: from_plan(jobs.extract_validation, "threads")
    resources:
        **requests_of(jobs.extract_validation),
    params:
        **params_of(jobs.extract_validation, "backbone", "architecture", "images", "exif"),
        code=code_of("extract_validation"),
    message:
        "Extracting the features of the validation split of {wildcards.dataset} ({wildcards.backbone})"
    script:
        "../scripts/extract_validation.py"


rule extract_test:
    input:
        weights=tracked_by_checksum(jobs.extract_test, "weights"),
        manifest=tracked_by_checksum(paths.MANIFEST),
        receipts=from_plan(jobs.extract_test, "receipts"),
    output:
        features=paths.TEST_FEATURES,
        receipt=receipt_of(paths.TEST_FEATURES),
    log:
        "logs/extract_test/{backbone}/{dataset}/{part}.log",
    wildcard_constraints:
        part=r"test(-\d+of\d+)?",
    conda:
        "../../environment.yml"
    threads: from_plan(jobs.extract_test, "threads")
    resources:
        **requests_of(jobs.extract_test),
    params:
        **params_of(jobs.extract_test, "backbone", "architecture", "images", "exif", "shard"),
        code=code_of("extract_test"),
    message:
        "Extracting the features of the test images of {wildcards.dataset} ({wildcards.backbone}, {wildcards.part})"
    script:
        "../scripts/extract_test.py"
