"""Rule report: vtclip.results.report.report."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.results.report import report

    report(
        snakemake.output[0],
        told=snakemake.params.told,
        tables={
            "results": snakemake.input.results,
            "differences": snakemake.input.differences,
            "metrics": snakemake.input.metrics,
        },
        config=snakemake.input.config,
        figures=snakemake.input.figures,
        records=snakemake.input.records,
        predictions=snakemake.input.predictions,
        texts=snakemake.input.texts,
        template=snakemake.input.template,
    )
