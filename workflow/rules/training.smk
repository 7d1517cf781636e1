# From features to heads, and from heads to predictions.


rule train_head:
    input:
        unpack(inputs_of(PLAN.train_head)),
    output:
        head=PATHS.head,
        history=paths.history_of(PATHS.head),
        record=paths.record_of(PATHS.head),
    log:
        PATHS.training_log,
    group:
        of(PLAN.train_head, "group")
    conda:
        "../../environment.yml"
    threads: of(PLAN.train_head, "threads")
    resources:
        gpu=of(PLAN.train_head, "gpus"),
        turn=of(PLAN.train_head, "turn"),
        mem_mb=grown(PLAN.train_head, "memory"),
        runtime=grown(PLAN.train_head, "minutes"),
    params:
        told=of(PLAN.train_head, "told"),
        code=of(PLAN.train_head, "code"),
    message:
        "Training {wildcards.method} on {wildcards.dataset}: {wildcards.shots} shots, seed {wildcards.seed} ({wildcards.backbone})"
    script:
        "../scripts/train_head.py"


# The one rule that sees test features: nothing can be chosen on them.
rule predict_test:
    input:
        unpack(inputs_of(PLAN.predict_test)),
    output:
        predictions=PATHS.predictions,
        receipt=receipt_of(PATHS.predictions),
    log:
        f"logs/predict_test/{PLAN.name}/{{backbone}}/{{dataset}}/{{method}}/{{tested}}.log",
    conda:
        "../../environment.yml"
    resources:
        gpu=PLAN.gpus,
        mem_mb=grown(PLAN.predict_test, "memory"),
        runtime=grown(PLAN.predict_test, "minutes"),
    params:
        method=of(PLAN.predict_test, "base"),
        settings=of(PLAN.predict_test, "settings"),
        runs=of(PLAN.predict_test, "runs"),
        told=of(PLAN.predict_test, "told"),
        code=of(PLAN.predict_test, "code"),
    message:
        "Predicting the test images of {wildcards.tested} with {wildcards.method} ({wildcards.backbone})"
    script:
        "../scripts/predict_test.py"
