"""Rule extract_test: vtclip.features.extract.extract_test."""

import torch

from vtclip.devices import lease_device
from vtclip.features.backbone import load_backbone
from vtclip.features.extract import extract_test
from vtclip.logs import job_log

with (
    job_log(snakemake.log[0]),
    lease_device(
        snakemake.config.get("device", "auto"), slots=snakemake.config.get("slots_per_gpu", 1)
    ) as device,
):
    torch.set_num_threads(snakemake.threads)
    backbone = load_backbone(
        **snakemake.params.backbone | {"pretrained": snakemake.input.weights},
        device=device,
    )
    extract_test(
        backbone,
        snakemake.input.manifest,
        snakemake.params.images,
        snakemake.output[0],
        shard=snakemake.params.shard,
        batch_size=64,
        workers=snakemake.threads - 1,
        left_out=snakemake.params.left_out,
    )
