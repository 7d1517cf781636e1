"""Rule plot_ablation: vtclip.results.ablation.plot_ablation."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.ablation import plot_ablation

with job_log(snakemake.log[0]):
    plot_ablation(
        snakemake.input[0], Path(snakemake.output.svg).with_suffix(""), snakemake.params.titles
    )
