"""Rule plot_accuracy: vtclip.results.figures.plot_accuracy."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.figures import plot_accuracy

with job_log(snakemake.log[0]):
    plot_accuracy(
        snakemake.input[0], Path(snakemake.output.svg).with_suffix(""), snakemake.params.titles
    )
