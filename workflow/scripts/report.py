"""Rule report: vtclip.results.report.report."""

from vtclip.runtime.job import job

KEYS = ("name", "titles", "reference", "choices", "missing")

with job(snakemake.log[0]):
    from vtclip.results.report import report

    report(
        snakemake.output[0],
        told={
            **{name: snakemake.params[name] for name in KEYS},
            "shown": [
                (each.backbone, each.dataset, each.images, each.attention)
                for each in snakemake.params.examples
            ],
            "keys_of_records": [
                (run.backbone, run.dataset, run.method) for run in snakemake.params.runs
            ],
        },
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
