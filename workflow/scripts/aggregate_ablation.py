"""Rule aggregate_ablation: vtclip.results.gains.aggregate_ablation."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.gains import aggregate_ablation

    aggregate_ablation(
        snakemake.params.runs,
        snakemake.output.parquet,
        titles=snakemake.params.titles,
        notes=snakemake.params.notes,
        samples=snakemake.params.samples,
    )
