"""Rule aggregate_metrics: vtclip.results.metrics.aggregate_metrics."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.metrics import aggregate_metrics

    aggregate_metrics(
        snakemake.params.runs,
        Path(snakemake.output.metrics).with_suffix(""),
        Path(snakemake.output.classes).with_suffix(""),
    )
