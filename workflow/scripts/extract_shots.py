"""Rule extract_shots: vtclip.features.extract.extract_shots."""

import torch

from vtclip.devices import lease_device
from vtclip.features.backbone import load_backbone
from vtclip.features.extract import extract_shots
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
    views = snakemake.params.views
    extract_shots(
        backbone,
        snakemake.input.shots,
        snakemake.params.images,
        snakemake.output[0],
        views=views["number"],
        scale=views["scale"],
        flip=views["flip"],
        seed=int(snakemake.wildcards.seed),
        batch_size=64,
        workers=snakemake.threads - 1,
        left_out=snakemake.params.left_out,
    )
