"""Rule report: vtclip.results.report.report."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.report import report

    report(
        snakemake.output[0],
        runs=snakemake.params.runs,
        examples=snakemake.params.examples,
        name=snakemake.params.name,
        titles=snakemake.params.titles,
        reference=snakemake.params.reference,
        choices=snakemake.params.choices,
        picks=snakemake.params.picks,
        missing=snakemake.params.missing,
        tables={
            "results": snakemake.input.results,
            "differences": snakemake.input.differences,
            "metrics": snakemake.input.metrics,
        },
        best=snakemake.input.best,
        config=snakemake.input.config,
        figures=snakemake.input.figures,
        template=snakemake.input.template,
    )
