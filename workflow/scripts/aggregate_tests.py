"""Rule aggregate_tests: vtclip.results.test_sets.aggregate_tests."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.published import read_published
    from vtclip.results.test_sets import Asked, aggregate_tests

    aggregate_tests(
        list(
            dict.fromkeys(
                Asked(
                    run.backbone,
                    run.dataset,
                    run.tested,
                    run.method,
                    run.predictions or None,
                    run.reason,
                )
                for run in snakemake.params.runs
            )
        ),
        Path(snakemake.output.parquet).with_suffix(""),
        titles=snakemake.params.titles,
        published=read_published(
            snakemake.input.published, snakemake.params.backbones, elsewhere=True
        ),
    )
