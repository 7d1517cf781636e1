"""Rule extract_texts: vtclip.features.extract.extract_texts."""

import torch

from vtclip.features.backbone import load_backbone
from vtclip.features.extract import extract_texts
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    extract_texts(
        load_backbone(**snakemake.params.backbone | {"pretrained": snakemake.input.weights}),
        snakemake.input.manifest,
        snakemake.params.templates,
        snakemake.output[0],
    )
