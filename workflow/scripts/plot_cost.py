"""Rule plot_cost: vtclip.results.figures.plot_cost."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.figures import plot_cost

    plot_cost(
        snakemake.input.results,
        snakemake.params.runs,
        snakemake.output.svg,
        snakemake.params.titles,
    )
