"""Rule plot_accuracy: vtclip.results.figures.plot_accuracy."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.figures import plot_accuracy

    plot_accuracy(
        snakemake.input[0], Path(snakemake.output.svg).with_suffix(""), snakemake.params.titles
    )
