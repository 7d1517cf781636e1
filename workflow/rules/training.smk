# From features to heads, and from heads to predictions.


rule train_head:
    input:
        texts=tracked_by_checksum(head_jobs.train_head, "texts"),
        # Nothing for methods that learn from no image.
        features=tracked_by_checksum(head_jobs.train_head, "features"),
        # Of a dataset in folds, the images of these features to learn from: the features of the fold
        # that a head will predict are not among them. Of methods that read images, the run's own.
        shots=from_plan(head_jobs.train_head, "inputs", "shots"),
        # The whole validation split, with `choose: all`.
        validation=tracked_by_checksum(head_jobs.train_head, "validation"),
        # Of methods that read the text tower.
        weights=tracked_by_checksum(head_jobs.train_head, "weights"),
        receipts=from_plan(head_jobs.train_head, "receipts"),
    output:
        head=PATHS.head,
        history=paths.history_of(PATHS.head),
        record=paths.record_of(PATHS.head),
    log:
        paths.log_of(PATHS.head),
    group:
        from_plan(head_jobs.train_head, "group")
    conda:
        "../../environment.yml"
    threads: from_plan(head_jobs.train_head, "threads")
    resources:
        **requests_of(head_jobs.train_head),
        turn=from_plan(head_jobs.train_head, "turn"),
    params:
        **params_of(
            head_jobs.train_head,
            "method",
            "settings",
            "validation",
            "on_all",
            "on_gpu",
            "images",
            "tower",
            "projection",
        ),
        code=from_plan(head_jobs.train_head, "code"),
    message:
        "Training {wildcards.method} on {wildcards.dataset}: {wildcards.shots}-shot, seed {wildcards.seed} ({wildcards.backbone})"
    script:
        "../scripts/train_head.py"


# Of the rules that lead to a result, the one that sees test features or test images: nothing can be
# chosen on them. Of a dataset in folds it sees all of them, and each fold's heads, which predict that
# fold alone.
rule predict_test:
    input:
        features=tracked_by_checksum(head_jobs.predict_test, "features"),
        # In their place, of methods that read images: that all of them are there.
        images=from_plan(head_jobs.predict_test, "inputs", "images"),
        heads=tracked_by_checksum(head_jobs.predict_test, "heads"),
        texts=tracked_by_checksum(head_jobs.predict_test, "texts"),
        manifest=tracked_by_checksum(head_jobs.predict_test, "manifest"),
        # These two for a test set with other classes than the heads' own.
        trained_texts=tracked_by_checksum(head_jobs.predict_test, "trained_texts"),
        trained_manifest=tracked_by_checksum(head_jobs.predict_test, "trained_manifest"),
        # Of methods that read the text tower, for such a test set, or to predict at all.
        weights=tracked_by_checksum(head_jobs.predict_test, "weights"),
        receipts=from_plan(head_jobs.predict_test, "receipts"),
    output:
        predictions=PATHS.predictions,
        receipt=receipt_of(PATHS.predictions),
    log:
        f"logs/predict_test/{PLAN.name}/{{backbone}}/{{dataset}}/{{method}}/{{tested}}.log",
    conda:
        "../../environment.yml"
    threads: from_plan(head_jobs.predict_test, "threads")
    resources:
        **requests_of(head_jobs.predict_test),
    params:
        **params_of(
            head_jobs.predict_test, "method", "settings", "runs", "trained", "images", "tower"
        ),
        code=from_plan(head_jobs.predict_test, "code"),
    message:
        "Predicting the test images of {wildcards.tested} with {wildcards.method} ({wildcards.backbone})"
    script:
        "../scripts/predict_test.py"
