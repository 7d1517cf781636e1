"""Rule aggregate_ablation: vtclip.results.ablation.aggregate_ablation."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.ablation import Trial, aggregate_ablation

    aggregate_ablation(
        [Trial(*trial) for trial in snakemake.params.trials],
        Path(snakemake.output.parquet).with_suffix(""),
        notes=snakemake.params.notes,
    )
