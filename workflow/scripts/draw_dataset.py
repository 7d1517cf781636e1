"""Rule draw_dataset: vtclip.demo.datasets.draw_dataset."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.demo.datasets import draw_dataset

    draw_dataset(
        snakemake.params.name,
        snakemake.params.folder,
        snakemake.output[0],
        seed=snakemake.params.seed,
    )
