"""Rule pretrain_backbone: vtclip.demo.pretrain.pretrain_backbone."""

import torch

from vtclip.demo.pretrain import pretrain_backbone
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    pretrain_backbone(
        snakemake.input[0],
        snakemake.output[0],
        steps=snakemake.params.steps,
        learning_rate=snakemake.params.learning_rate,
        seed=snakemake.params.seed,
    )
