"""Rule plot_attention: vtclip.results.attention.plot_attention."""

from pathlib import Path

import torch

from vtclip.features.backbone import load_backbone
from vtclip.logs import job_log
from vtclip.results.attention import plot_attention

with job_log(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    shots, seed = snakemake.params.run
    plot_attention(
        load_backbone(**snakemake.params.backbone | {"pretrained": snakemake.input.weights}),
        snakemake.params.settings,
        snakemake.input.texts,
        snakemake.input.head,
        snakemake.input.predictions,
        snakemake.params.images,
        Path(snakemake.output.png).with_suffix(""),
        shots=shots,
        seed=seed,
    )
