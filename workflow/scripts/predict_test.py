"""Rule predict_test: vtclip.training.predict.predict_test."""

from importlib import import_module

from vtclip.runtime.job import gpu_job

told = snakemake.params.told
with gpu_job(
    snakemake.log[0],
    threads=snakemake.threads,
    device=snakemake.config["device"],
    slots=snakemake.config["slots_per_gpu"],
) as device:
    from vtclip.training.predict import Run, Trained, predict_test

    tower, trained = None, None
    if told["tower"] is not None:
        # By name, so that its code is part of the hash of such methods alone.
        tower = import_module("vtclip.backbones.prompts").load_text_tower(
            **told["tower"], pretrained=snakemake.input.weights, device=device
        )
    if told["trained"] is not None:
        known = snakemake.input.known_texts, snakemake.input.known_manifest
        trained = Trained(told["trained"], *known)
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
        tested=told["tested"],
        trained=trained,
        tower=tower,
    )
