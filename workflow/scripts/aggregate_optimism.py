"""Rule aggregate_optimism: vtclip.results.gains.aggregate_optimism."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.gains import Oracle, aggregate_optimism

    aggregate_optimism(
        snakemake.params.runs,
        [Oracle(*row) for row in snakemake.params.oracles],
        snakemake.output.parquet,
        titles=snakemake.params.titles,
    )
