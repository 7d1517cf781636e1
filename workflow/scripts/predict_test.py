"""Rule predict_test: vtclip.training.predict.predict_test."""

from importlib import import_module

from vtclip.runtime.job import gpu_job

params = snakemake.params
with gpu_job(
    snakemake.log[0],
    threads=snakemake.threads,
    device=snakemake.config["device"],
    slots=snakemake.config["slots_per_gpu"],
) as device:
    from vtclip.training.predict import Trained, TrainedHead, predict_test

    tower, trained = None, None
    if params.tower is not None:
        # By name, so that its code is part of the hash of such methods alone.
        tower = import_module(params.tower["module"]).load_tower(
            **params.tower["backbone"], pretrained=snakemake.input.weights, device=device
        )
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
        tower=tower,
    )
