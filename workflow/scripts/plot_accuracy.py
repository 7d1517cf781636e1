"""Rule plot_accuracy: vtclip.results.figures.plot_accuracy."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.figures import plot_accuracy

    plot_accuracy(snakemake.input[0], snakemake.output.svg, snakemake.params.titles)
