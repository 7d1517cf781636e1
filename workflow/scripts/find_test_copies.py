"""Rule find_test_copies: vtclip.results.labels.find_test_copies."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.labels import find_test_copies

    find_test_copies(
        snakemake.output.parquet,
        manifest=snakemake.input.manifest,
        samples=snakemake.input.shots,
        images=snakemake.params.images,
        exif=snakemake.params.exif,
        features=[*snakemake.input.learned, *snakemake.input.test],
    )
