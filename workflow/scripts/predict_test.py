"""Rule predict_test: vtclip.training.predict.predict_test."""

from vtclip.jobs import gpu_job

with gpu_job(snakemake.log[0], threads=snakemake.threads, config=snakemake.config) as device:
    from vtclip.training.predict import Run, predict_test

    predict_test(
        snakemake.params.method,
        snakemake.params.settings,
        snakemake.input.texts,
        [
            Run(shots, seed, head)
            for (shots, seed), head in zip(
                snakemake.params.runs, snakemake.input.heads, strict=True
            )
        ],
        snakemake.input.features,
        snakemake.output.predictions,
        device=device,
        manifest=snakemake.input.manifest,
    )
