"""Rule aggregate_ablation: vtclip.results.ablation.aggregate_ablation."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.ablation import aggregate_ablation

    aggregate_ablation(
        snakemake.params.runs,
        Path(snakemake.output.parquet).with_suffix(""),
        titles=snakemake.params.titles,
        notes=snakemake.params.notes,
        samples=snakemake.params.samples,
    )
