"""Rule plot_ablation: vtclip.results.ablation.plot_ablation."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.ablation import plot_ablation

    plot_ablation(snakemake.input[0], snakemake.output.svg, snakemake.params.titles)
