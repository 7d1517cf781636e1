"""Rule predict_test: vtclip.training.predict.predict_test."""

import torch

from vtclip.devices import lease_device
from vtclip.logs import job_log
from vtclip.training.predict import Run, predict_test

with (
    job_log(snakemake.log[0]),
    lease_device(
        snakemake.config.get("device", "auto"), slots=snakemake.config.get("slots_per_gpu", 1)
    ) as device,
):
    torch.set_num_threads(snakemake.threads)
    predict_test(
        snakemake.params.method,
        snakemake.params.settings,
        snakemake.input.texts,
        [
            Run(shots, seed, head)
            for (shots, seed), head in zip(
                snakemake.params.runs, snakemake.input.heads, strict=True
            )
        ],
        snakemake.input.features,
        snakemake.output[0],
        device=device,
    )
