"""Seconds of everything that computes, alone and beside two other busy processes.

Each part has the threads that a job on a CPU has, and threads that wait give their core away, as
the rules have it. Beside B busy processes, T threads get cores / (T + B) of a core each. The last
column is how many times the seconds of this share a part took: 1 is fair, and beyond 2.5 its
threads wait for one another. Each training by gradient takes a few steps, the pre-training 20.
"""

import argparse
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is imported

import open_clip
import torch
from measuring import time_once
from methods import BACKBONE, CLASSES, SHOTS, VIEWS, make_task, time_fit
from towers import make_vtclip, take_step

from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.shapes import read_shape
from vtclip.config.backbone_config import BackboneConfig
from vtclip.cost import Size, training_threads
from vtclip.demo.pretrain import pretrain
from vtclip.methods import METHODS
from vtclip.methods.base import Method
from vtclip.nn.learner import AdamW

STEPS, BUSY, TOWERS = 4, 2, "ViT-B-32"
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "patch_size": 4, "width": 128, "layers": 3, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
SETTINGS = {"cross_modal": {"iterations": 400}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [name for name, kind in METHODS.items() if kind.few_shot]
    parser.add_argument("--methods", nargs="*", choices=names, default=names)
    arguments = parser.parse_args()
    cores = multiprocessing.cpu_count()
    print(f"{cores} cores, beside {BUSY} busy processes\n")
    print("| what computes | threads | alone, s | beside, s | of its fair share |")
    print("|---|---:|---:|---:|---:|")
    for name, threads, run in list_parts(arguments.methods):
        torch.set_num_threads(threads)
        rounds = math.ceil(1 / time_rounds(run, 1))  # a second or more; the first run loads
        alone = time_rounds(run, rounds)
        with busy_processes(BUSY):
            beside = time_rounds(run, rounds)
        share = beside / alone / max(1.0, (threads + BUSY) / cores)
        print(f"| {name} | {threads} | {alone:.1f} | {beside:.1f} | {share:.1f} |", flush=True)


def list_parts(methods: list[str]) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Encoding, pre-training, and a fit of each method: name, threads, and the call."""
    cores = multiprocessing.cpu_count()
    shape = read_shape(BackboneConfig(name=BACKBONE, pretrained="openai"))
    size = Size(shape, CLASSES, SHOTS, CLASSES * SHOTS, VIEWS)
    backbone = load_backbone(BACKBONE, pretrained=None, device="cpu")
    pixels = torch.rand(16, 3, 224, 224)
    yield "Encoding 16 images with RN50", cores, lambda: backbone.encode_images(pixels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.json"
        file.write_text(json.dumps(TINY))
        open_clip.add_model_config(file)
    model = open_clip.create_model("tiny", load_weights=False)
    yield "Pre-training of the demo", 2, lambda: pretrain(model, "tiny", 20, 1e-4, 0)
    for name in methods:
        if METHODS[name].reads_images:
            yield f"{METHODS[name].title}, a step", cores, make_tower_step(METHODS[name])
            continue
        method = METHODS[name](METHODS[name].settings_type(**SETTINGS.get(name, {})))
        task = make_task(method, STEPS)
        threads = min(cores, training_threads(method.work(size), on_gpu=False))
        yield method.title, threads, partial(time_fit, method, task, STEPS)


def make_tower_step(kind: type[Method]) -> Callable[[], object]:
    """A step of a method that trains the towers: ViT-B/32, 20 classes, 4 images."""
    names = [f"thing {number}" for number in range(20)]
    learner = make_vtclip(load_backbone(TOWERS, pretrained=None, device="cpu"), names, kind)
    optimiser = AdamW(learner.parameters(), weight_decay=0.01, epsilon=1e-8)
    pixels, labels = torch.rand(4, 3, 224, 224), torch.arange(4)
    return lambda: take_step(learner, optimiser, pixels, labels)


def time_rounds(run: Callable[[], object], rounds: int) -> float:
    """Seconds on the clock."""
    return sum(time_once(run) for _ in range(rounds))


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """So many processes that each keep a core busy."""
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def spin() -> None:
    """Compute until killed."""
    while True:
        sum(range(100_000))


if __name__ == "__main__":
    main()
