"""Rule train_head: vtclip.training.train.train_head."""

import gc
from pathlib import Path

import torch

from vtclip.devices import lease_device
from vtclip.logs import job_log
from vtclip.training.train import train_head

with (
    job_log(snakemake.log[0]),
    lease_device(
        snakemake.config.get("device", "auto") if snakemake.params.on_gpu else "cpu",
        slots=snakemake.config.get("slots_per_gpu", 1),
    ) as device,
):
    torch.set_num_threads(snakemake.threads)
    if snakemake.params.settings.get("compile"):
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:  # the same, but for a setting of the compiler, which the line above imports
        torch.set_deterministic_debug_mode("warn")
    # Nothing here reads what it did not write; filling 0.8 GB of features costs up to a second.
    torch.utils.deterministic.fill_uninitialized_memory = False
    tower = None
    if snakemake.input.get("weights"):  # the method reads the text tower
        from vtclip.features.backbone import load_backbone
        from vtclip.features.prompts import TextTower

        weights = {"pretrained": snakemake.input.weights}
        tower = TextTower(load_backbone(**snakemake.params.backbone | weights, device=device))
    train_head(
        snakemake.params.method,
        snakemake.params.settings,
        snakemake.input.texts,
        snakemake.input.get("shots"),
        snakemake.input.get("features"),
        Path(snakemake.output.head).parent,
        seed=int(snakemake.wildcards.seed),
        device=device,
        shots_a_class=int(snakemake.wildcards.shots),
        tower=tower,
    )
gc.freeze()  # else Python looks for cycles among PyTorch's objects as it ends, for 0.4 s or more
