"""Rule train_head: vtclip.training.train.train_head."""

from importlib import import_module
from pathlib import Path

from vtclip.runtime.job import gpu_job

told = snakemake.params.told
with gpu_job(
    snakemake.log[0],
    threads=snakemake.threads,
    device=snakemake.config["device"] if told["on_gpu"] else "cpu",
    slots=snakemake.config["slots_per_gpu"],
    compiles=told["settings"].get("compile", False),
) as device:
    from vtclip.paths import parse_shots
    from vtclip.training.train import train_head

    tower = None
    if told["tower"] is not None:
        # By name, so that its code is part of the hash of such methods alone.
        tower = import_module("vtclip.backbones.prompts").load_text_tower(
            **told["tower"], pretrained=snakemake.input.weights, device=device
        )
    train_head(
        told["method"],
        told["settings"],
        snakemake.input.texts,
        snakemake.input.get("features"),
        Path(snakemake.output.head).parent,
        shots=parse_shots(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
        device=device,
        tower=tower,
        validation=told["validation"],
        dataset=told["dataset"],
    )
