"""Rule sample_shots: vtclip.data.shots.sample_shots."""

from vtclip.jobs import job

with job(snakemake.log[0]):
    import polars as pl

    from vtclip.data.shots import sample_shots
    from vtclip.files import writing

    # The sample is another one when the images are, though their names may stay.
    images = pl.read_parquet_metadata(snakemake.input.manifest)["images_sha256"]
    with writing(snakemake.output[0]) as temporary:
        sample_shots(
            pl.read_parquet(snakemake.input.manifest),
            shots=int(snakemake.wildcards.shots),
            seed=int(snakemake.wildcards.seed),
        ).write_parquet(temporary, metadata={"images_sha256": images})
