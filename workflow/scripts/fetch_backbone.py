"""Rule fetch_backbone: vtclip.features.backbone.fetch_backbone."""

from vtclip.jobs import job

with job(snakemake.log[0]):
    from vtclip.features.backbone import fetch_backbone

    fetch_backbone(
        snakemake.params.name,
        snakemake.params.pretrained,
        snakemake.output.weights,
        architecture=snakemake.params.file,
    )
