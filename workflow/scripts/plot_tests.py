"""Rule plot_tests: vtclip.results.transfer.plot_tests."""

from pathlib import Path

from vtclip.jobs import job

with job(snakemake.log[0]):
    from vtclip.results.transfer import plot_tests

    plot_tests(
        snakemake.input[0], Path(snakemake.output.svg).with_suffix(""), snakemake.params.titles
    )
