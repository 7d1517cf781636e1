"""Rule draw_dataset: vtclip.demo.datasets.draw_dataset."""

from vtclip.demo.datasets import draw_dataset
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    draw_dataset(
        snakemake.params.name,
        snakemake.params.folder,
        snakemake.output[0],
        seed=snakemake.params.seed,
    )
