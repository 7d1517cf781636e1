# From class names and images to features.


rule fetch_backbone:
    input:
        weights_of_ones_own(),
    output:
        "resources/backbones/{backbone}.safetensors",
    log:
        "logs/fetch_backbone/{backbone}.log",
    benchmark:
        "results/benchmarks/fetch_backbone/{backbone}.tsv"
    wildcard_constraints:
        backbone="(?!glyph-clip)[^/]+",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        downloads=1,
        mem_mb=4000,
        runtime=120,
    params:
        backbone=BACKBONE_PARAMS,
        code=code_of("fetch_backbone", "vtclip.features.backbone"),
    message:
        "Fetching the weights of {wildcards.backbone}"
    script:
        "../scripts/fetch_backbone.py"


rule extract_texts:
    input:
        weights=WEIGHTS,
        manifest="results/manifests/{dataset}.parquet",
    output:
        "results/features/{backbone}/{dataset}/texts.parquet",
    log:
        "logs/extract_texts/{backbone}/{dataset}.log",
    benchmark:
        "results/benchmarks/extract_texts/{backbone}/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_for_backbone,
        runtime=minutes_to_extract_texts,
    params:
        backbone=backbone_of,
        templates=lambda wildcards: DATASETS[wildcards.dataset].templates,
        code=code_of("extract_texts", "vtclip.features.extract"),
    message:
        "Reading the class names of {wildcards.dataset} with {wildcards.backbone}"
    script:
        "../scripts/extract_texts.py"


rule extract_shots:
    input:
        weights=WEIGHTS,
        shots=shots_files_of_seed,
    output:
        "results/features/{backbone}/{dataset}/seed{seed}.parquet",
    log:
        "logs/extract_shots/{backbone}/{dataset}/seed{seed}.log",
    benchmark:
        "results/benchmarks/extract_shots/{backbone}/{dataset}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda wildcards: threads_to_decode(views_of_seed(wildcards.dataset))
    resources:
        gpu=GPU,
        mem_mb=memory_to_extract,
        runtime=minutes_to_extract_shots,
    params:
        backbone=backbone_of,
        images=images_of,
        left_out=left_out_of,
        views=EXPERIMENT.views.model_dump(),
        code=code_of("extract_shots", "vtclip.features.extract", "vtclip.devices"),
    message:
        "Extracting the features of {wildcards.dataset}'s shots, seed {wildcards.seed}"
    script:
        "../scripts/extract_shots.py"


rule extract_test:
    input:
        weights=WEIGHTS,
        manifest="results/manifests/{dataset}.parquet",
    output:
        "results/features/{backbone}/{dataset}/{part}.parquet",
    log:
        "logs/extract_test/{backbone}/{dataset}/{part}.log",
    benchmark:
        "results/benchmarks/extract_test/{backbone}/{dataset}/{part}.tsv"
    wildcard_constraints:
        part=r"test(-\d+of\d+)?",
    conda:
        "../../environment.yml"
    threads: lambda wildcards: threads_to_decode(test_images_of(wildcards.dataset))
    resources:
        gpu=GPU,
        mem_mb=memory_to_extract,
        runtime=minutes_to_extract_test,
    params:
        backbone=backbone_of,
        images=images_of,
        left_out=left_out_of,
        shard=shard_of,
        code=code_of("extract_test", "vtclip.features.extract", "vtclip.devices"),
    message:
        "Extracting the features of {wildcards.dataset}'s test images ({wildcards.part})"
    script:
        "../scripts/extract_test.py"
