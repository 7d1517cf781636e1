"""Rule predict_test: vtclip.training.predict.predict_test."""

from vtclip.runtime.job import gpu_job, load_tower

params = snakemake.params
with gpu_job(snakemake.log[0], snakemake.config, threads=snakemake.threads) as device:
    from vtclip.training.predict import Trained, TrainedHead, predict_test

    trained = None
    if params.trained is not None:
        known = snakemake.input.trained_texts, snakemake.input.trained_manifest
        trained = Trained(params.trained, *known)
    predict_test(
        params.method,
        params.settings,
        snakemake.input.texts,
        [
            TrainedHead(shots, seed, head, *fold)
            for (shots, seed, *fold), head in zip(params.runs, snakemake.input.heads, strict=True)
        ],
        snakemake.input.features,
        snakemake.output.predictions,
        device=device,
        images=params.images,
        workers=snakemake.threads - 1,
        manifest=snakemake.input.manifest,
        tested=snakemake.wildcards.tested,
        trained=trained,
        tower=load_tower(params.tower, snakemake.input.weights, device),
    )
