"""Rule train_oracle: vtclip.training.oracle.train_oracle."""

from vtclip.runtime.job import gpu_job, load_projection, load_tower

params, given = snakemake.params, snakemake.input
with gpu_job(
    snakemake.log[0],
    snakemake.config,
    threads=snakemake.threads,
    on_gpu=params.on_gpu,
    compiles=params.settings.get("compile", False),
) as device:
    from vtclip.paths import parse_shots
    from vtclip.training.oracle import train_oracle
    from vtclip.training.tasks import Sources

    features = [given.features] if isinstance(given.features, str) else given.features
    sources = Sources(
        given.texts,
        features,
        snakemake.wildcards.dataset,
        sample=given.shots or None,
        tower=load_tower(params.tower, given.weights, device),
        projection=load_projection(params.projection, given.weights),
    )
    train_oracle(
        params.method,
        params.settings,
        sources,
        given.test,
        list(zip(given.heads, given.predictions, strict=True)),
        snakemake.output.head,
        shots=parse_shots(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
        device=device,
    )
