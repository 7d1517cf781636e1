"""Rule train_head: vtclip.training.train.train_head."""

from pathlib import Path

from vtclip.runtime.job import gpu_job, load_projection, load_tower

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

    train_head(
        params.method,
        params.settings,
        snakemake.input.texts,
        snakemake.input.features or None,  # a file, or those of several folds
        Path(snakemake.output.head).parent,
        shots=parse_shots(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
        device=device,
        tower=load_tower(params.tower, snakemake.input.weights, device),
        choose_on=snakemake.input.validation or None,
        validation=params.validation,
        dataset=snakemake.wildcards.dataset,
        sample=snakemake.input.shots or None,
        images=params.images,
        projection=load_projection(params.projection, snakemake.input.weights),
    )
