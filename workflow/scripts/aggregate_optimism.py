"""Rule aggregate_optimism: vtclip.results.optimism.aggregate_optimism."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.optimism import Oracle, aggregate_optimism

    aggregate_optimism(
        snakemake.params.runs,
        [Oracle(*row) for row in snakemake.params.oracles],
        Path(snakemake.output.parquet).with_suffix(""),
        titles=snakemake.params.titles,
    )
