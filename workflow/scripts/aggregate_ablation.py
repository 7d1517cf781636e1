"""Rule aggregate_ablation: vtclip.results.ablation.aggregate_ablation."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.ablation import Trial, aggregate_ablation

with job_log(snakemake.log[0]):
    aggregate_ablation(
        [Trial(*trial) for trial in snakemake.params.trials],
        Path(snakemake.output.parquet).with_suffix(""),
    )
