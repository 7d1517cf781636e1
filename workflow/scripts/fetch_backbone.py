"""Rule fetch_backbone: vtclip.features.backbone.fetch_backbone."""

from vtclip.features.backbone import fetch_backbone
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    backbone = snakemake.params.backbone
    fetch_backbone(
        backbone["name"],
        backbone["pretrained"],
        snakemake.output[0],
        architecture=backbone["architecture"],
    )
