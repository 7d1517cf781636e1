"""Rule aggregate_differences: vtclip.results.differences.aggregate_differences."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.differences import aggregate_differences

with job_log(snakemake.log[0]):
    aggregate_differences(
        dict(zip(map(tuple, snakemake.params.columns), snakemake.input, strict=True)),
        Path(snakemake.output.parquet).with_suffix(""),
        reference=snakemake.params.reference,
    )
