"""Rule aggregate_results: vtclip.results.few_shot.aggregate_results."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.parquet import read_parquet
    from vtclip.results.few_shot import aggregate_results
    from vtclip.results.tables import read_published

    aggregate_results(
        snakemake.params.runs,
        snakemake.output.parquet,
        titles=snakemake.params.titles,
        notes=snakemake.params.notes,
        missing=snakemake.params.missing,
        samples=snakemake.params.samples,
        unmet=snakemake.params.unmet,
        metrics=next(map(read_parquet, snakemake.input.metrics), None),
        published=read_published(snakemake.input.published, snakemake.params.backbones),
    )
