# From features to heads, and from heads to predictions.


rule train_head:
    input:
        unpack(training_inputs),
    output:
        head="results/runs/{backbone}/{dataset}/{method}/{shots}shot-seed{seed}/head.safetensors",
        history="results/runs/{backbone}/{dataset}/{method}/{shots}shot-seed{seed}/history.parquet",
        run="results/runs/{backbone}/{dataset}/{method}/{shots}shot-seed{seed}/run.json",
    log:
        "logs/train_head/{backbone}/{dataset}/{method}/{shots}shot-seed{seed}.log",
    benchmark:
        "results/benchmarks/train_head/{backbone}/{dataset}/{method}/{shots}shot-seed{seed}.tsv"
    group:
        group_of_training
    conda:
        "../../environment.yml"
    threads: threads_to_train
    resources:
        gpu=gpus_to_train,
        turn=turn_of_training,
        mem_mb=memory_to_train,
        runtime=minutes_to_train,
    params:
        method=method_of,
        on_gpu=lambda wildcards: METHODS[method_of(wildcards)].on_gpu,
        settings=settings_of,
        backbone=BACKBONE_PARAMS,
        code=code_of_training,
    message:
        "Training {wildcards.method} on {wildcards.dataset}: {wildcards.shots} shots, seed {wildcards.seed}"
    script:
        "../scripts/train_head.py"


# The one rule that sees test features: nothing can be chosen on them.
rule predict_test:
    input:
        texts="results/features/{backbone}/{dataset}/texts.parquet",
        features=test_features_of,
        heads=heads_of,
    output:
        "results/predictions/{backbone}/{dataset}/{method}.parquet",
    log:
        "logs/predict_test/{backbone}/{dataset}/{method}.log",
    benchmark:
        "results/benchmarks/predict_test/{backbone}/{dataset}/{method}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory_to_predict,
        runtime=minutes_to_predict,
    params:
        method=method_of,
        settings=settings_of,
        runs=lambda wildcards: runs_of(wildcards.method),
        code=lambda wildcards: code_of(
            "predict_test",
            "vtclip.training.predict",
            "vtclip.devices",
            method_module(method_of(wildcards)),
        ),
    message:
        "Predicting the test images of {wildcards.dataset} with {wildcards.method}"
    script:
        "../scripts/predict_test.py"
