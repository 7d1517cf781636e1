"""Rule aggregate_metrics: vtclip.results.metrics.aggregate_metrics."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.metrics import aggregate_metrics

    aggregate_metrics(snakemake.params.runs, snakemake.output.metrics, snakemake.output.classes)
