"""Rule aggregate_metrics: vtclip.results.metrics.aggregate_metrics."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.metrics import aggregate_metrics

with job_log(snakemake.log[0]):
    aggregate_metrics(
        dict(zip(map(tuple, snakemake.params.columns), snakemake.input.predictions, strict=True)),
        dict(zip(snakemake.params.datasets, snakemake.input.texts, strict=True)),
        Path(snakemake.output.metrics).with_suffix(""),
        Path(snakemake.output.classes).with_suffix(""),
    )
