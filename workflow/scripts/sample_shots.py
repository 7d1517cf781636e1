"""Rule sample_shots: vtclip.data.shots.sample_shots."""

import polars as pl

from vtclip.data.shots import sample_shots
from vtclip.files import writing
from vtclip.logs import job_log

with job_log(snakemake.log[0]), writing(snakemake.output[0]) as temporary:
    sample_shots(
        pl.read_parquet(snakemake.input[0]),
        shots=int(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
    ).write_parquet(temporary)
