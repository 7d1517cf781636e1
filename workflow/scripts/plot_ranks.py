"""Rule plot_ranks: vtclip.results.ranks.plot_ranks."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.ranks import plot_ranks

    plot_ranks(snakemake.input[0], snakemake.output.svg, snakemake.params.titles)
