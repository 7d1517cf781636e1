"""Rule pretrain_backbone: vtclip.demo.pretrain.pretrain_backbone."""

from vtclip.runtime.job import job

with job(snakemake.log[0], threads=snakemake.threads):
    from vtclip.demo.pretrain import pretrain_backbone

    pretrain_backbone(
        snakemake.params.file,
        snakemake.output.weights,
        trained=snakemake.input.trained,
        steps=snakemake.params.steps,
        learning_rate=snakemake.params.learning_rate,
        seed=snakemake.params.seed,
    )
