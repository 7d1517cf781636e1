"""Rule fetch_backbone: vtclip.backbones.backbone.fetch_backbone."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.backbones.backbone import fetch_backbone

    fetch_backbone(
        snakemake.params.name,
        snakemake.params.pretrained,
        snakemake.output.weights,
        architecture=snakemake.params.file,
        weights_key=snakemake.params.weights_key,
    )
