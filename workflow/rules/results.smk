# From predictions to tables and figures.


rule aggregate_results:
    input:
        all_predictions(),
    output:
        parquet=f"{RESULTS}.parquet",
        csv=f"{RESULTS}.csv",
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
        columns=[
            (dataset, method) for dataset in DATASETS for method in METHOD_SETTINGS
        ],
        missing=list(MISSING),
        code=code_of("aggregate_results", "vtclip.results.aggregate"),
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


onsuccess:
    table = Path(f"{RESULTS}.md")
    if table.is_file():  # not where only a few targets were asked for
        print(
            f"\n{table.read_text()}\nTables in results/tables/, figures in results/figures/."
        )
