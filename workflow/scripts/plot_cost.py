"""Rule plot_cost: vtclip.results.figures.plot_cost."""

from pathlib import Path

from vtclip.logs import job_log
from vtclip.results.figures import plot_cost

with job_log(snakemake.log[0]):
    runs = {}
    for method, run in zip(snakemake.params.methods, snakemake.input.runs, strict=True):
        runs.setdefault(method, []).append(run)
    plot_cost(snakemake.input.results, runs, Path(snakemake.output.svg).with_suffix(""))
