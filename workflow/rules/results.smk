# From predictions to tables and figures. Every rule writes into the experiment's folder.


localrules:
    save_config,
    aggregate_results,
    aggregate_differences,
    aggregate_estimates,
    aggregate_metrics,
    aggregate_ablation,
    aggregate_tests,
    plot_tests,
    plot_accuracy,
    plot_cost,
    plot_ranks,
    plot_ablation,
    report,


PREDICTIONS = distinct(PLAN.own_runs, "predictions")
TEXTS = distinct(PLAN.own_runs, "texts")
RECORDS = distinct(PLAN.own_runs, "record")


rule save_config:
    output:
        config=PATHS.config,
        record=receipt_of(PATHS.config),
    log:
        f"logs/save_config/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        config={"name": PLAN.name} | CONFIG,
        files=CONFIG_FILES,
        code=code_of("save_config"),
    message:
        "Saving the configuration"
    script:
        "../scripts/save_config.py"


rule aggregate_results:
    input:
        predictions=tracked_by_checksum(PREDICTIONS),
        texts=tracked_by_checksum(TEXTS),
        receipts=receipts_of(PREDICTIONS, TEXTS),
        records=RECORDS,
        samples=[sample.path for sample in PLAN.samples_of(PLAN.own_runs)],
        histories=PLAN.histories_of(PLAN.own_runs),
        # Shown below the table where the classes have other numbers of images.
        metrics=[f"{TABLES}/metrics.parquet"] * bool(PLAN.experiment.uneven),
        published=paths.find_own(paths.PUBLISHED),
    output:
        parquet=f"{TABLES}/results.parquet",
        csv=f"{TABLES}/results.csv",
        latex=f"{TABLES}/results.tex",
        text=f"{TABLES}/results.txt",
        markdown=in_report(f"{TABLES}/results.md", about="accuracy"),
    log:
        f"logs/aggregate_results/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        titles=TITLES,
        notes=shown.list_notes(PLAN),
        missing=list(PLAN.missing),
        samples=PLAN.samples_of(PLAN.own_runs),
        unmet=lambda wildcards: shown.list_unmet_settings(PLAN),
        backbones=PLAN.backbone_names,
        code=code_of("aggregate_results"),
    message:
        "Writing the results table"
    script:
        "../scripts/aggregate_results.py"


rule plot_accuracy:
    input:
        f"{TABLES}/results.parquet",
    output:
        svg=in_report(f"{FIGURES}/accuracy.svg", about="accuracy"),
        png=f"{FIGURES}/accuracy.png",
    log:
        f"logs/plot_accuracy/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        titles=TITLES,
        code=code_of("plot_accuracy"),
    message:
        "Drawing accuracy against shots"
    script:
        "../scripts/plot_accuracy.py"


rule aggregate_differences:
    input:
        results=f"{TABLES}/results.parquet",
        predictions=tracked_by_checksum(PREDICTIONS),
        receipts=receipts_of(PREDICTIONS),
    output:
        parquet=f"{TABLES}/differences.parquet",
        csv=f"{TABLES}/differences.csv",
        ranks=f"{TABLES}/ranks.parquet",
        ranks_csv=f"{TABLES}/ranks.csv",
        markdown=in_report(f"{TABLES}/differences.md", about="differences"),
    log:
        f"logs/aggregate_differences/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        titles=TITLES,
        notes=shown.list_notes(PLAN),
        reference=PLAN.reference,
        code=code_of("aggregate_differences"),
    message:
        "Comparing the methods run by run"
    script:
        "../scripts/aggregate_differences.py"


rule plot_ranks:
    input:
        f"{TABLES}/ranks.parquet",
    output:
        svg=in_report(f"{FIGURES}/ranks.svg", about="ranks"),
        png=f"{FIGURES}/ranks.png",
    log:
        f"logs/plot_ranks/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        titles=TITLES,
        code=code_of("plot_ranks"),
    message:
        "Drawing the methods' ranks"
    script:
        "../scripts/plot_ranks.py"


rule aggregate_metrics:
    input:
        predictions=tracked_by_checksum(PREDICTIONS),
        texts=tracked_by_checksum(TEXTS),
        receipts=receipts_of(PREDICTIONS, TEXTS),
    output:
        metrics=f"{TABLES}/metrics.parquet",
        metrics_csv=f"{TABLES}/metrics.csv",
        classes=f"{TABLES}/classes.parquet",
        classes_csv=f"{TABLES}/classes.csv",
    log:
        f"logs/aggregate_metrics/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        code=code_of("aggregate_metrics"),
    message:
        "Measuring macro F1, calibration and accuracy by class"
    script:
        "../scripts/aggregate_metrics.py"


# Accuracies with their intervals, and which head of each dataset to take.
rule aggregate_estimates:
    input:
        predictions=tracked_by_checksum(PREDICTIONS),
        manifests=tracked_by_checksum(expand(paths.MANIFEST, dataset=PLAN.in_folds)),
        texts=tracked_by_checksum(TEXTS),
        records=RECORDS,
        receipts=receipts_of(PREDICTIONS, TEXTS, expand(paths.MANIFEST, dataset=PLAN.in_folds)),
    output:
        parquet=f"{TABLES}/estimates.parquet",
        csv=f"{TABLES}/estimates.csv",
        markdown=in_report(f"{TABLES}/estimates.md", about="estimates"),
        confusions=f"{TABLES}/confusions.parquet",
        confusions_csv=f"{TABLES}/confusions.csv",
        best=PATHS.best,
    log:
        f"logs/aggregate_estimates/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        titles=TITLES,
        code=code_of("aggregate_estimates"),
    message:
        "Estimating accuracies, and choosing the head to take"
    script:
        "../scripts/aggregate_estimates.py"


rule plot_cost:
    input:
        results=f"{TABLES}/results.parquet",
        records=RECORDS,
    output:
        svg=in_report(f"{FIGURES}/cost.svg", about="cost"),
        png=f"{FIGURES}/cost.png",
    log:
        f"logs/plot_cost/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        titles=TITLES,
        code=code_of("plot_cost"),
    message:
        "Drawing accuracy against what training costs"
    script:
        "../scripts/plot_cost.py"


rule plot_attention:
    input:
        weights=tracked_by_checksum(head_jobs.plot_attention, "weights"),
        texts=tracked_by_checksum(head_jobs.plot_attention, "texts"),
        head=tracked_by_checksum(head_jobs.plot_attention, "head"),
        predictions=tracked_by_checksum(head_jobs.plot_attention, "predictions"),
        receipts=from_plan(head_jobs.plot_attention, "receipts"),
        images=lambda wildcards: PLAN.images_receipt(wildcards.dataset) or [],
    output:
        svg=report(
            f"{FIGURES}/attention/{{backbone}}/{{dataset}}.svg",
            caption="../report/attention.rst",
            category="Attention",
            labels={"backbone": "{backbone}", "dataset": "{dataset}"},
        ),
        png=f"{FIGURES}/attention/{{backbone}}/{{dataset}}.png",
    log:
        f"logs/plot_attention/{PLAN.name}/{{backbone}}/{{dataset}}.log",
    conda:
        "../../environment.yml"
    resources:
        **requests_of(head_jobs.plot_attention),
    params:
        **params_of(head_jobs.plot_attention, "backbone", "images", "settings", "run"),
        code=code_of("plot_attention"),
    message:
        "Drawing what the texts of {wildcards.dataset} look at ({wildcards.backbone})"
    script:
        "../scripts/plot_attention.py"


# The ablation: the same rules train and predict its variants, here they are compared.
rule aggregate_ablation:
    input:
        predictions=tracked_by_checksum(distinct(PLAN.ablation_runs, "predictions")),
        receipts=receipts_of(distinct(PLAN.ablation_runs, "predictions")),
        records=distinct(PLAN.ablation_runs, "record"),
        samples=[sample.path for sample in PLAN.samples_of(PLAN.ablation_runs)],
        histories=PLAN.histories_of(PLAN.ablation_runs),
    output:
        parquet=f"{TABLES}/ablation.parquet",
        csv=f"{TABLES}/ablation.csv",
        markdown=in_report(f"{TABLES}/ablation.md", about="gains", category="Ablation"),
    log:
        f"logs/aggregate_ablation/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.ablation_runs,
        titles=TITLES,
        notes=shown.list_ablation_notes(PLAN),
        samples=PLAN.samples_of(PLAN.ablation_runs),
        code=code_of("aggregate_ablation"),
    message:
        "Writing the ablation table"
    script:
        "../scripts/aggregate_ablation.py"


rule plot_ablation:
    input:
        f"{TABLES}/ablation.parquet",
    output:
        svg=in_report(f"{FIGURES}/ablation.svg", about="gains", category="Ablation"),
        png=f"{FIGURES}/ablation.png",
    log:
        f"logs/plot_ablation/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        titles=TITLES,
        code=code_of("plot_ablation"),
    message:
        "Drawing what each variant gains"
    script:
        "../scripts/plot_ablation.py"


# Heads on other test sets than their own, or on halves of the classes.
rule aggregate_tests:
    input:
        predictions=tracked_by_checksum(distinct(PLAN.test_runs, "predictions")),
        receipts=receipts_of(distinct(PLAN.test_runs, "predictions")),
        published=paths.find_own(paths.PUBLISHED_TESTS),
        results=[f"{TABLES}/results.parquet"] * bool(PLAN.own_runs),
    output:
        parquet=f"{TABLES}/tests.parquet",
        csv=f"{TABLES}/tests.csv",
        markdown=report(f"{TABLES}/tests.md", caption="../report/tests.rst", category="Test sets"),
    log:
        f"logs/aggregate_tests/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.test_runs,
        titles=TITLES,
        backbones=PLAN.backbone_names,
        code=code_of("aggregate_tests"),
    message:
        "Writing the table of test sets"
    script:
        "../scripts/aggregate_tests.py"


rule plot_tests:
    input:
        f"{TABLES}/tests.parquet",
    output:
        svg=report(f"{FIGURES}/tests.svg", caption="../report/tests.rst", category="Test sets"),
        png=f"{FIGURES}/tests.png",
    log:
        f"logs/plot_tests/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        titles=TITLES,
        code=code_of("plot_tests"),
    message:
        "Drawing accuracy by test set"
    script:
        "../scripts/plot_tests.py"


# It reads test images and test features after all is drawn, and feeds the report alone.
rule find_test_copies:
    input:
        manifest=tracked_by_checksum(jobs.find_test_copies, "manifest"),
        shots=from_plan(jobs.find_test_copies, "inputs", "shots"),
        images=from_plan(jobs.find_test_copies, "inputs", "images"),
        learned=tracked_by_checksum(jobs.find_test_copies, "learned"),
        test=tracked_by_checksum(jobs.find_test_copies, "test"),
        receipts=from_plan(jobs.find_test_copies, "receipts"),
    output:
        parquet=PATHS.copies,
        csv=str(Path(PATHS.copies).with_suffix(".csv")),
    log:
        f"logs/find_test_copies/{PLAN.name}/{{dataset}}.log",
    conda:
        "../../environment.yml"
    resources:
        **requests_of(jobs.find_test_copies),
    params:
        **params_of(jobs.find_test_copies, "images", "exif"),
        code=code_of("find_test_copies"),
    message:
        "Comparing the test images of {wildcards.dataset} with the images drawn"
    script:
        "../scripts/find_test_copies.py"


EXAMPLES = shown.list_examples(PLAN)
LEARNED = [file for each in EXAMPLES for file in each.learned]


rule report:
    input:
        results=f"{TABLES}/results.parquet",
        differences=f"{TABLES}/differences.parquet",
        metrics=f"{TABLES}/metrics.parquet",
        best=PATHS.best,
        config=PATHS.config,
        figures=[
            PATHS.figure(name)[0]
            for name in ["accuracy", "cost", "ranks"] + ["ablation"] * bool(PLAN.ablation_runs)
        ],
        attention=distinct(EXAMPLES, "attention"),
        records=RECORDS,
        # Of all heads: which one's mistakes are shown is known when they are tested.
        predictions=tracked_by_checksum(PREDICTIONS),
        texts=tracked_by_checksum(distinct(EXAMPLES, "texts")),
        heads=tracked_by_checksum(distinct(PLAN.own_runs, "head")),
        # Images of no class of a dataset: the shots of another one.
        others=tracked_by_checksum(distinct(EXAMPLES, "others")),
        # Images that heads have learned from, whose labels the report checks.
        learned=tracked_by_checksum(LEARNED),
        receipts=receipts_of(
            *(distinct(EXAMPLES, name) for name in ("texts", "others")),
            PREDICTIONS,
            LEARNED,
        ),
        copies=distinct(EXAMPLES, "copies"),
        # Of images that the workflow has unpacked or drawn; of a user's folder there is none.
        images=distinct(EXAMPLES, "receipt"),
        samples=list(PLAN.picks.values()),
        template=paths.find_own(paths.TEMPLATE),
    output:
        report(
            PATHS.report,
            caption="../report/report.rst",
            category="Report",
            labels={"kind": "page", "about": "everything"},
        ),
    log:
        f"logs/report/{PLAN.name}.log",
    conda:
        "../../environment.yml"
    resources:
        **SMALL,
    params:
        runs=PLAN.own_runs,
        examples=EXAMPLES,
        name=PLAN.name,
        titles=TITLES,
        reference=PLAN.reference,
        choices=shown.explain_choices(PLAN),
        picks=PLAN.picks,
        missing=dict(PLAN.missing),
        code=code_of("report"),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"


onsuccess:
    for name in ("results.txt", "tests.md"):
        table = Path(f"{TABLES}/{name}")
        if table.is_file() and table.stat().st_mtime >= STARTED:  # this run has written it
            print(f"\n{table.read_text()}\nTables in {TABLES}/, figures in {FIGURES}/.")
    page = Path(PATHS.report)
    if page.is_file() and page.stat().st_mtime >= STARTED:
        print(f"The report: {page}")
