"""Rule plot_cost: vtclip.results.figures.plot_cost."""

from pathlib import Path

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.figures import plot_cost

    plot_cost(
        snakemake.input.results,
        snakemake.params.runs,
        Path(snakemake.output.svg).with_suffix(""),
        snakemake.params.titles,
    )
