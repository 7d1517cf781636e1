"""Rule unpack_archives: vtclip.data.unpack.unpack_archives."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.layouts import read_wanted
    from vtclip.data.unpack import Archive, unpack_archives

    dataset, folder = snakemake.params.dataset, Path(snakemake.params.archives)
    unpack_archives(
        [
            Archive(folder / archive["file"], archive["into"], archive["nested"])
            for archive in dataset["archives"]
        ],
        Path(snakemake.output[0]).with_suffix(""),
        snakemake.output[0],
        wanted=read_wanted(dataset, folder),
    )
