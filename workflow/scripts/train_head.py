"""Rule train_head: vtclip.training.train.train_head."""

from pathlib import Path

from vtclip.runtime.job import gpu_job, load_projection, load_tower

params = snakemake.params
with gpu_job(
    snakemake.log[0],
    snakemake.config,
    threads=snakemake.threads,
    on_gpu=params.on_gpu,
    compiles=params.settings.get("compile", False),
) as device:
    from vtclip.paths import parse_shots
    from vtclip.training.tasks import Sources
    from vtclip.training.train import train_head

    wildcards, given = snakemake.wildcards, snakemake.input
    features, chosen_on = (
        [files] if isinstance(files, str) else list(files)  # a file, or those of several folds
        for files in (given.features, given.validation)
    )
    sources = Sources(
        given.texts,
        features,
        wildcards.dataset,
        sample=given.shots or None,
        images=params.images,
        choose_on=chosen_on,
        tower=load_tower(params.tower, given.weights, device),
        projection=load_projection(params.projection, given.weights),
    )
    train_head(
        params.method,
        params.settings,
        sources,
        Path(snakemake.output.head).parent,
        shots=parse_shots(wildcards.shots),
        seed=int(wildcards.seed),
        device=device,
        validation=params.validation,
        on_all=params.on_all,
    )
