"""Rule plot_attention: vtclip.inference.attention.plot_attention."""

from vtclip.runtime.job import job

with job(snakemake.log[0], threads=snakemake.threads):
    from vtclip.backbones.backbone import load_backbone
    from vtclip.inference.attention import plot_attention

    shots, seed = snakemake.params.run
    plot_attention(
        load_backbone(**snakemake.params.backbone, pretrained=snakemake.input.weights),
        snakemake.params.settings,
        snakemake.input.texts,
        snakemake.input.head,
        snakemake.input.predictions,
        snakemake.params.images,
        snakemake.output.png,
        shots=shots,
        seed=seed,
    )
