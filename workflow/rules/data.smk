# From images to manifests and shots.


rule prepare_manifest:
    input:
        receipt="resources/images/{dataset}.json",
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
        images=subpath(input.receipt, strip_suffix=".json"),
        split=lambda wildcards: DATASETS[wildcards.dataset].split,
        counts=lambda wildcards: DATASETS[wildcards.dataset].counts.model_dump(),
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
