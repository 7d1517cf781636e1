"""Rule aggregate_differences: vtclip.results.differences.aggregate_differences."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.differences import aggregate_differences
    from vtclip.results.tables import read_notes

    aggregate_differences(
        snakemake.params.runs,
        snakemake.output.parquet,
        reference=snakemake.params.reference,
        titles=snakemake.params.titles,
        notes=[*snakemake.params.notes, *read_notes(snakemake.input.results)],
    )
