"""Rule aggregate_optimism: vtclip.results.gains.aggregate_optimism."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.gains import aggregate_optimism

    aggregate_optimism(
        snakemake.params.runs,
        snakemake.params.oracles,
        snakemake.output.parquet,
        titles=snakemake.params.titles,
    )
