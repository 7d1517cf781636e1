# The optimism table: what choosing on more images is worth, and on the test images. Included only
# with `optimism: true`. No other rule reads what is made here.


localrules:
    aggregate_optimism,


# Like `predict_test`, it reads test features: to choose on them. Its heads are no results.
rule train_oracle:
    input:
        texts=tracked_by_checksum(head_jobs.train_oracle, "texts"),
        features=tracked_by_checksum(head_jobs.train_oracle, "features"),
        shots=from_plan(head_jobs.train_oracle, "inputs", "shots"),
        test=tracked_by_checksum(head_jobs.train_oracle, "test"),
        # The heads of the same run that choose fairly, and what they predict.
        heads=tracked_by_checksum(head_jobs.train_oracle, "heads"),
        predictions=tracked_by_checksum(head_jobs.train_oracle, "predictions"),
        weights=tracked_by_checksum(head_jobs.train_oracle, "weights"),
        receipts=from_plan(head_jobs.train_oracle, "receipts"),
    output:
        head=PATHS.oracle,
        record=receipt_of(PATHS.oracle),
        predictions=PATHS.oracle_predictions,
        receipt=receipt_of(PATHS.oracle_predictions),
    log:
        f"logs/train_oracle/{PLAN.name}/{{backbone}}/{{dataset}}/{{method}}/{{shots}}shot-seed{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: from_plan(head_jobs.train_oracle, "threads")
    resources:
        **requests_of(head_jobs.train_oracle),
    params:
        **params_of(head_jobs.train_oracle, "method", "settings", "on_gpu", "tower", "projection"),
        code=from_plan(head_jobs.train_oracle, "code"),
    message:
        "Training an oracle of {wildcards.method} on {wildcards.dataset}: {wildcards.shots}-shot, seed {wildcards.seed} ({wildcards.backbone})"
    script:
        "../scripts/train_oracle.py"


rule aggregate_optimism:
    input:
        predictions=tracked_by_checksum(distinct(head_jobs.list_fair_runs(PLAN), "predictions")),
        oracles=[row[-1] for row in head_jobs.list_oracles(PLAN)],
        receipts=receipts_of(distinct(head_jobs.list_fair_runs(PLAN), "predictions")),
    output:
        parquet=f"{TABLES}/optimism.parquet",
        csv=f"{TABLES}/optimism.csv",
        markdown=f"{TABLES}/optimism.md",
    log:
        f"logs/aggregate_optimism/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=head_jobs.list_fair_runs(PLAN),
        oracles=head_jobs.list_oracles(PLAN),
        titles=TITLES,
        code=code_of("aggregate_optimism"),
    message:
        "Writing what choosing is worth"
    script:
        "../scripts/aggregate_optimism.py"
