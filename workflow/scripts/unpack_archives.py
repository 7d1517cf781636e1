"""Rule unpack_archives: vtclip.data.unpack.unpack_archives."""

from importlib import import_module
from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.layouts import read_wanted
    from vtclip.data.unpack import Archive, unpack_archives

    dataset, folder = snakemake.params.dataset, Path(snakemake.params.archives)
    # Imported by its name: to leave another image out is no reason to unpack again.
    read_dataset = import_module("vtclip.config.dataset").read_dataset
    unpack_archives(
        [
            Archive(folder / archive["file"], archive["into"], archive["nested"])
            for archive in dataset["archives"]
        ],
        Path(snakemake.output[0]).with_suffix(""),
        snakemake.output[0],
        wanted=read_wanted(dataset, folder),
        left_out=read_dataset(snakemake.wildcards.dataset).leave_out,
    )
