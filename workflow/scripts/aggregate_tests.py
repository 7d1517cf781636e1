"""Rule aggregate_tests: vtclip.results.test_sets.aggregate_tests."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.tables import read_notes, read_published
    from vtclip.results.test_sets import aggregate_tests

    aggregate_tests(
        snakemake.params.runs,
        snakemake.output.parquet,
        titles=snakemake.params.titles,
        notes=[note for table in snakemake.input.results for note in read_notes(table)],
        published=read_published(
            snakemake.input.published, snakemake.params.backbones, by_test_set=True
        ),
    )
