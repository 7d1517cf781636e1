"""Rule aggregate_results: vtclip.results.aggregate.aggregate_results."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.aggregate import aggregate_results
from vtclip.results.published import read_published

with job_log(snakemake.log[0]):
    aggregate_results(
        dict(zip(map(tuple, snakemake.params.columns), snakemake.input.predictions, strict=True)),
        Path(snakemake.output.parquet).with_suffix(""),
        missing=snakemake.params.missing,
        published=read_published(snakemake.input.published, *snakemake.params.backbone),
    )
