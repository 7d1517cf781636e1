"""Rule plot_tests: vtclip.results.test_sets.plot_tests."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.test_sets import plot_tests

    plot_tests(snakemake.input[0], snakemake.output.svg, snakemake.params.titles)
