"""Rule train_head: vtclip.training.train.train_head."""

from importlib import import_module
from pathlib import Path

from vtclip.runtime.job import gpu_job

params = snakemake.params
with gpu_job(
    snakemake.log[0],
    threads=snakemake.threads,
    device=snakemake.config["device"] if params.on_gpu else "cpu",
    slots=snakemake.config["slots_per_gpu"],
    compiles=params.settings.get("compile", False),
) as device:
    from vtclip.paths import parse_shots
    from vtclip.training.train import train_head

    tower = None
    if params.tower is not None:
        # By name, so that its code is part of the hash of such methods alone.
        tower = import_module(params.tower["module"]).load_tower(
            **params.tower["backbone"], pretrained=snakemake.input.weights, device=device
        )
    projection = None
    if params.projection:
        projection = import_module("vtclip.backbones.checkpoints").read_projection(
            snakemake.input.weights
        )
    train_head(
        params.method,
        params.settings,
        snakemake.input.texts,
        snakemake.input.features or None,  # a file, or those of several folds
        Path(snakemake.output.head).parent,
        shots=parse_shots(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
        device=device,
        tower=tower,
        choose_on=snakemake.input.validation or None,
        validation=params.validation,
        dataset=snakemake.wildcards.dataset,
        sample=snakemake.input.shots or None,
        images=params.images,
        projection=projection,
    )
