"""Rule aggregate_metrics: vtclip.results.metrics.aggregate_metrics."""

from pathlib import Path

from vtclip.runtime.job import job

runs = snakemake.params.runs
with job(snakemake.log[0]):
    from vtclip.results.metrics import aggregate_metrics
    from vtclip.results.tables import list_sources

    aggregate_metrics(
        list_sources(runs),
        [texts for _, texts in dict.fromkeys((run.predictions, run.texts) for run in runs)],
        Path(snakemake.output.metrics).with_suffix(""),
        Path(snakemake.output.classes).with_suffix(""),
    )
