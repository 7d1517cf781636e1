"""Rule plot_ablation: vtclip.results.gains.plot_ablation."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.gains import plot_ablation

    plot_ablation(snakemake.input[0], snakemake.output.svg, snakemake.params.titles)
