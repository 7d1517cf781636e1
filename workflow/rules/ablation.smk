# Variants of one method: the same rules train and predict them, here they are compared.


rule aggregate_ablation:
    input:
        predictions=lambda wildcards: sorted({trial[4] for trial in ablation_trials()}),
        runs=lambda wildcards: [trial[5] for trial in ablation_trials()],
    output:
        parquet=f"{ABLATION}.parquet",
        csv=f"{ABLATION}.csv",
        markdown=report(
            f"{ABLATION}.md", caption="../report/ablation.rst", category="Ablation"
        ),
    log:
        "logs/aggregate_ablation.log",
    benchmark:
        "results/benchmarks/aggregate_ablation.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        trials=lambda wildcards: ablation_trials(),
        code=code_of("aggregate_ablation", "vtclip.results.ablation"),
    message:
        "Writing the ablation table"
    script:
        "../scripts/aggregate_ablation.py"


rule plot_ablation:
    input:
        f"{ABLATION}.parquet",
    output:
        svg=report(
            f"{GAINS}.svg", caption="../report/ablation.rst", category="Ablation"
        ),
        png=f"{GAINS}.png",
    log:
        "logs/plot_ablation.log",
    benchmark:
        "results/benchmarks/plot_ablation.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        titles={name: dataset.title for name, dataset in DATASETS.items()},
        code=code_of("plot_ablation", "vtclip.results.ablation"),
    message:
        "Drawing what each variant gains"
    script:
        "../scripts/plot_ablation.py"
