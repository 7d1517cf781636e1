# From predictions to tables and figures.


rule aggregate_results:
    input:
        predictions=all_predictions(),
        published="config/published.csv",
    output:
        parquet=f"{RESULTS}.parquet",
        csv=f"{RESULTS}.csv",
        latex=f"{RESULTS}.tex",
        text=f"{RESULTS}.txt",
        markdown=report(
            f"{RESULTS}.md", caption="../report/results.rst", category="Results"
        ),
    log:
        "logs/aggregate_results.log",
    benchmark:
        "results/benchmarks/aggregate_results.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        columns=RESULT_KEYS,
        missing=list(MISSING),
        backbone=(EXPERIMENT.backbone.name, EXPERIMENT.backbone.pretrained),
        code=code_of(
            "aggregate_results", "vtclip.results.aggregate", "vtclip.results.published"
        ),
    message:
        "Writing the results table"
    script:
        "../scripts/aggregate_results.py"


rule plot_accuracy:
    input:
        f"{RESULTS}.parquet",
    output:
        svg=report(
            f"{ACCURACY}.svg", caption="../report/accuracy.rst", category="Results"
        ),
        png=f"{ACCURACY}.png",
    log:
        "logs/plot_accuracy.log",
    benchmark:
        "results/benchmarks/plot_accuracy.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        titles={name: dataset.title for name, dataset in DATASETS.items()},
        code=code_of("plot_accuracy", "vtclip.results.figures"),
    message:
        "Drawing accuracy against shots"
    script:
        "../scripts/plot_accuracy.py"


rule aggregate_differences:
    input:
        all_predictions(),
    output:
        parquet=f"{DIFFERENCES}.parquet",
        csv=f"{DIFFERENCES}.csv",
        markdown=report(
            f"{DIFFERENCES}.md",
            caption="../report/differences.rst",
            category="Results",
        ),
    log:
        "logs/aggregate_differences.log",
    benchmark:
        "results/benchmarks/aggregate_differences.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        columns=RESULT_KEYS,
        reference="vt_clip" if "vt_clip" in METHOD_SETTINGS else [*METHOD_SETTINGS][-1],
        code=code_of("aggregate_differences", "vtclip.results.differences"),
    message:
        "Comparing the methods run by run"
    script:
        "../scripts/aggregate_differences.py"


rule aggregate_metrics:
    input:
        predictions=all_predictions(),
        texts=expand(
            "results/features/{backbone}/{dataset}/texts.parquet",
            backbone=BACKBONE,
            dataset=DATASETS,
        ),
    output:
        metrics=f"{METRICS}.parquet",
        metrics_csv=f"{METRICS}.csv",
        classes=f"{CLASSES}.parquet",
        classes_csv=f"{CLASSES}.csv",
    log:
        "logs/aggregate_metrics.log",
    benchmark:
        "results/benchmarks/aggregate_metrics.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        columns=RESULT_KEYS,
        datasets=list(DATASETS),
        code=code_of("aggregate_metrics", "vtclip.results.metrics"),
    message:
        "Measuring macro F1, calibration and accuracy by class"
    script:
        "../scripts/aggregate_metrics.py"


rule plot_cost:
    input:
        results=f"{RESULTS}.parquet",
        runs=[run.replace("head.safetensors", "run.json") for run in all_heads()],
    output:
        svg=report(f"{COST}.svg", caption="../report/cost.rst", category="Results"),
        png=f"{COST}.png",
    log:
        "logs/plot_cost.log",
    benchmark:
        "results/benchmarks/plot_cost.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        methods=[run.split("/")[4] for run in all_heads()],
        code=code_of("plot_cost", "vtclip.results.figures"),
    message:
        "Drawing accuracy against what training costs"
    script:
        "../scripts/plot_cost.py"


rule plot_attention:
    input:
        weights=WEIGHTS,
        images=receipt_of_images,
        texts=f"results/features/{BACKBONE}/{{dataset}}/texts.parquet",
        head=lambda wildcards: head_of_attention(wildcards.dataset),
        predictions=f"results/predictions/{BACKBONE}/{{dataset}}/vt_clip.parquet",
    output:
        svg=report(
            "results/figures/attention/{dataset}.svg",
            caption="../report/attention.rst",
            category="Attention",
        ),
        png="results/figures/attention/{dataset}.png",
    log:
        "logs/plot_attention/{dataset}.log",
    benchmark:
        "results/benchmarks/plot_attention/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_for_backbone,
        runtime=10,
    params:
        backbone=BACKBONE_PARAMS,
        images=images_of,
        settings=lambda wildcards: settings_of_method("vt_clip", wildcards.dataset),
        run=lambda wildcards: (max(EXPERIMENT.shots), EXPERIMENT.seeds[0]),
        code=code_of("plot_attention", "vtclip.results.attention"),
    message:
        "Drawing what the texts of {wildcards.dataset} look at"
    script:
        "../scripts/plot_attention.py"


onsuccess:
    table = Path(f"{RESULTS}.txt")
    if table.is_file():  # not where only a few targets were asked for
        print(
            f"\n{table.read_text()}\nTables in results/tables/, figures in results/figures/."
        )
