# From archives to images, manifests and shots.


localrules:
    fetch_archive,
    prepare_manifest,
    sample_shots,


rule fetch:
    input:
        PLAN.archives,
        PLAN.weights,
    localrule: True
    message:
        "Everything that has to be fetched"


rule fetch_archive:
    output:
        paths.ARCHIVE_RECEIPT,
    log:
        "logs/fetch_archive/{dataset}/{file}.log",
    conda:
        "../../environment.yml"
    resources:
        downloads=1,
        mem_mb=500,
        runtime=1440,
    params:
        # The file itself is no output: Snakemake would delete what a failed job has fetched.
        destination=lambda wildcards: PLAN.archive_path(**wildcards),
        expected=lambda wildcards: PLAN.expected(**wildcards),
        code=code_of("fetch_archive"),
    message:
        "Fetching {wildcards.file} of {wildcards.dataset}"
    script:
        "../scripts/fetch_archive.py"


rule unpack_archives:
    input:
        lambda wildcards: PLAN.receipts_of(**wildcards),
    output:
        paths.IMAGES_RECEIPT,
    log:
        "logs/unpack_archives/{dataset}.log",
    wildcard_constraints:
        dataset=matching(PLAN.unpacked),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 2000,
        runtime=lambda wildcards, attempt: attempt * PLAN.unpacking_minutes(**wildcards),
    params:
        archives="resources/archives/{dataset}",
        dataset=lambda wildcards: PLAN.unpacking(**wildcards),
        code=code_of("unpack_archives"),
    message:
        "Unpacking {wildcards.dataset}"
    script:
        "../scripts/unpack_archives.py"


rule prepare_manifest:
    input:
        lambda wildcards: PLAN.images_receipt(**wildcards) or [],
    output:
        manifest=paths.MANIFEST,
        receipt=receipt_of(paths.MANIFEST),
    log:
        "logs/prepare_manifest/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        images=lambda wildcards: PLAN.images_of(**wildcards),
        contents=lambda wildcards: PLAN.contents(**wildcards),
        dataset=lambda wildcards: PLAN.layout(**wildcards),
        code=code_of("prepare_manifest"),
    message:
        "Checking the images of {wildcards.dataset} against its split"
    script:
        "../scripts/prepare_manifest.py"


rule sample_shots:
    input:
        **by_receipt(manifest=paths.MANIFEST),
    output:
        paths.SHOTS,
    log:
        "logs/sample_shots/{dataset}/{shots}shot-seed{seed}.log",
    wildcard_constraints:
        shots=matching(map(paths.format_shots, PLAN.experiment.shots)),
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        code=code_of("sample_shots"),
    message:
        "Sampling {wildcards.shots} images per class of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/sample_shots.py"
