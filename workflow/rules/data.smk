# From archives to images, manifests and shots.


rule fetch:
    input:
        all_receipts(),
        WEIGHTS,
    localrule: True


rule fetch_archive:
    output:
        "resources/archives/{dataset}/{file}.json",
    log:
        "logs/fetch_archive/{dataset}/{file}.log",
    benchmark:
        "results/benchmarks/fetch_archive/{dataset}/{file}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        downloads=1,
        mem_mb=500,
        runtime=1440,
    params:
        # The file itself is no output: Snakemake would delete what a failed job has fetched.
        destination=lambda wildcards: str(
            archive_path(wildcards.dataset, wildcards.file)
        ),
        addresses=addresses_of,
        expected=expected_of,
        code=code_of("fetch_archive", "vtclip.data.fetch"),
    message:
        "Fetching {wildcards.file} of {wildcards.dataset}"
    script:
        "../scripts/fetch_archive.py"


rule unpack_archives:
    input:
        receipts_of,
    output:
        "resources/images/{dataset}.json",
    log:
        "logs/unpack_archives/{dataset}.log",
    benchmark:
        "results/benchmarks/unpack_archives/{dataset}.tsv"
    wildcard_constraints:
        dataset=names_of(lambda dataset: dataset.archives),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 2000,
        runtime=minutes_to_unpack,
    params:
        archives="resources/archives/{dataset}",
        dataset=layout_of,
        code=code_of("unpack_archives", "vtclip.data.unpack", "vtclip.data.layouts"),
    message:
        "Unpacking {wildcards.dataset}"
    script:
        "../scripts/unpack_archives.py"


rule prepare_manifest:
    input:
        receipt_of_images,
    output:
        "results/manifests/{dataset}.parquet",
    log:
        "logs/prepare_manifest/{dataset}.log",
    benchmark:
        "results/benchmarks/prepare_manifest/{dataset}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        images=images_of,
        contents=contents_of_folder,
        dataset=layout_of,
        code=code_of("prepare_manifest", "vtclip.data.manifest"),
    message:
        "Checking the images of {wildcards.dataset} against its split"
    script:
        "../scripts/prepare_manifest.py"


rule sample_shots:
    input:
        "results/manifests/{dataset}.parquet",
    output:
        "results/shots/{dataset}/{shots}shot-seed{seed}.parquet",
    log:
        "logs/sample_shots/{dataset}/{shots}shot-seed{seed}.log",
    benchmark:
        "results/benchmarks/sample_shots/{dataset}/{shots}shot-seed{seed}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        code=code_of("sample_shots", "vtclip.data.shots"),
    message:
        "Sampling {wildcards.shots} images a class of {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../scripts/sample_shots.py"
