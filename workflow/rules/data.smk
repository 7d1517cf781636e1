# From archives to images, manifests and shots.


localrules:
    fetch_archive,
    prepare_manifest,
    sample_shots,
    match_picks,


rule fetch:
    input:
        archives=PLAN.archives,
        weights=expand(paths.WEIGHTS, weights=PLAN.fetched_weights + PLAN.made_weights),
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
        **params_of(jobs.fetch_archive, "destination", "expected"),
        code=code_of("fetch_archive"),
    message:
        "Fetching {wildcards.file} of {wildcards.dataset}"
    script:
        "../scripts/fetch_archive.py"


rule unpack_archives:
    input:
        archives=from_plan(jobs.unpack_archives, "inputs", "receipts"),
    output:
        paths.IMAGES_RECEIPT,
    log:
        "logs/unpack_archives/{dataset}.log",
    wildcard_constraints:
        dataset=any_of(PLAN.unpacked),
    conda:
        "../../environment.yml"
    resources:
        **requests_of(jobs.unpack_archives),
    params:
        **params_of(jobs.unpack_archives, "dataset"),
        archives="resources/archives/{dataset}",
        code=code_of("unpack_archives"),
    message:
        "Unpacking {wildcards.dataset}"
    script:
        "../scripts/unpack_archives.py"


rule prepare_manifest:
    input:
        images=lambda wildcards: PLAN.images_receipt(wildcards.dataset) or [],
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
        **params_of(jobs.prepare_manifest, "images", "contents", "dataset"),
        code=code_of("prepare_manifest"),
    message:
        "Checking the images of {wildcards.dataset} against its split"
    script:
        "../scripts/prepare_manifest.py"


rule sample_shots:
    input:
        manifest=tracked_by_checksum(jobs.sample_shots, "manifest"),
        receipt=from_plan(jobs.sample_shots, "receipts"),
    output:
        paths.SHOTS if PLAN.experiment.picks else PATHS.samples,
    log:
        "logs/sample_shots/{dataset}/{shots}shot-seed{seed}.log",
    wildcard_constraints:
        shots=any_of(map(paths.format_shots, PLAN.experiment.shots)),
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        uneven=PLAN.experiment.uneven and PLAN.experiment.uneven.model_dump(),
        code=code_of("sample_shots"),
    message:
        "Sampling the images of {wildcards.dataset}: {wildcards.shots}-shot, seed {wildcards.seed}"
    script:
        "../scripts/sample_shots.py"


# In place of `sample_shots`, for an experiment with `picks`.
rule match_picks:
    input:
        manifest=tracked_by_checksum(paths.MANIFEST),
        receipt=receipt_of(paths.MANIFEST),
        picks=lambda wildcards: PLAN.picks_of(**wildcards),
    output:
        paths.with_draw(paths.SHOTS, PLAN.experiment.draw if PLAN.experiment.picks else "-picks"),
    log:
        "logs/match_picks/{dataset}/{shots}shot-seed{seed}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        code=code_of("match_picks"),
    message:
        "Matching the picks of {wildcards.dataset}: {wildcards.shots}-shot, seed {wildcards.seed}"
    script:
        "../scripts/match_picks.py"
