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
        mem_mb=4000,
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
    table = Path(f"{RESULTS}.md")
    if table.is_file():  # not where only a few targets were asked for
        print(
            f"\n{table.read_text()}\nTables in results/tables/, figures in results/figures/."
        )
