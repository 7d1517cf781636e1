"""Rule aggregate_estimates: vtclip.results.estimates.aggregate_estimates."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.estimates import aggregate_estimates

    aggregate_estimates(
        snakemake.params.runs,
        {Path(file).stem: file for file in snakemake.input.manifests},
        snakemake.output.parquet,
        snakemake.output.confusions,
        snakemake.output.best,
        titles=snakemake.params.titles,
    )
