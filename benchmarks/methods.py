"""Seconds and memory that one head of each method takes to fit, at 16 shots of 100 classes.

On invented features of RN50's shapes (D = 1,024, 50 tokens, five views), at the methods' default
settings, each in a process of its own on one core. Methods that train the towers have ViT-B/16 and
images of noise. Seconds are the processor's, so that a busy machine counts no less. A training by
gradient takes a few steps and is scaled up to all of them. Memory is what fitting takes beside the
process and the features, or the images.
"""

import argparse
import math
import time
from dataclasses import replace

import open_clip
import torch
import torch.nn.functional as F
from measuring import peak_memory, run_alone
from torch import Tensor

from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.prompts import TextTower
from vtclip.methods import METHODS
from vtclip.methods.base import Method, Recipe, Training
from vtclip.nn.learner import Learner
from vtclip.nn.towers import Towers
from vtclip.task import Prompts, Samples, Task, Texts
from vtclip.training.optimise import classify_shots, optimise

CLASSES, SHOTS, VIEWS, TOKENS, DIM = 100, 16, 5, 50, 1024
WIDTH = 2048  # before the projection
BACKBONE, TOWERS = "RN50-quickgelu", "ViT-B-16-quickgelu"
CPU = torch.device("cpu")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    if arguments.alone:
        print(report(arguments.alone, arguments.steps))
        return
    print(f"One head at {SHOTS} shots of {CLASSES} classes, D = {DIM}, on one core\n")
    print("| method | seconds | memory, MB |")
    print("|---|---:|---:|")
    for name in arguments.methods:
        print(run_alone("--alone", name, "--steps", arguments.steps), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--steps", type=int, default=4, help="of a training that are really taken")
    parser.add_argument("--alone", choices=[*METHODS], help=argparse.SUPPRESS)
    return parser.parse_args()


def report(name: str, steps: int) -> str:
    """A row of the table."""
    method = METHODS[name](METHODS[name].settings_type())
    if not method.few_shot:
        return f"| `{name}` | 0 | 0 |"
    task = make_task(method, steps)
    seconds = 0.0

    def fit() -> None:
        nonlocal seconds
        seconds = time_fit(method, task, steps)

    memory = peak_memory(fit, CPU)
    return f"| `{name}` | {seconds:,.{int(seconds < 100)}f} | {memory / 1e6:,.0f} |"


def time_fit(method: Method, task: Task, steps: int) -> float:
    """Seconds of a whole fit; of a training by gradient all but some steps are reckoned."""
    started = time.process_time()
    head = method.initial_head(task)
    learner = method.learner(head, task)
    seconds = time.process_time() - started
    if learner is None:
        return seconds
    seconds += time_training(learner, method.settings, task, steps)
    started = time.process_time()
    second = method.second_learner(method.finish(learner, task), task)
    seconds += time.process_time() - started
    return seconds if second is None else seconds + time_training(*second, task, steps)


def time_training(learner: Learner, recipe: Training, task: Task, steps: int) -> float:
    """Seconds of the steps of a training, and of measuring the validation shots after epochs."""
    images = CLASSES * SHOTS
    few = first(task.train, min(images, steps * recipe.batch_size))
    some = first(task.val, recipe.batch_size)
    # The first hundred images are one shot of each class.
    short = {"epochs": 1} if isinstance(recipe, Recipe) else {"steps_per_shot": steps}
    once = recipe.model_copy(update=short | {"select": "last"})
    started = time.process_time()
    optimise(learner, replace(task, train=few, val=None), once)
    trained = time.process_time()
    classify_shots(learner, some)
    measured = time.process_time()
    whole, taken = recipe.steps_at(SHOTS, images), recipe.steps_per_epoch(len(few.labels))
    epochs = math.ceil(whole / recipe.steps_per_epoch(images))
    measurements = epochs // recipe.measured_every(epochs)
    measuring = (measured - trained) * len(task.val.labels) / len(some.labels)
    return (trained - started) * whole / taken + measurements * measuring


def first(shots: Samples, number: int) -> Samples:
    """The first of some images."""
    spatial = None if shots.spatial is None else shots.spatial[:number]
    return replace(
        shots, pooled=shots.pooled[:number], spatial=spatial, labels=shots.labels[:number]
    )


class Noise:
    """Images of noise, in the place of decoded ones."""

    def views(self, rows: Tensor, view: Tensor | int) -> Tensor:
        """Pixels (B, 3, 224, 224) of some images."""
        return torch.randn(len(rows), 3, 224, 224)


def make_task(method: Method, steps: int) -> Task:
    """Images about their class's centre; spatial features of as many as some steps take."""
    generator = torch.Generator().manual_seed(0)

    def near(centres: Tensor, *shape: int) -> Tensor:
        return centres + 1.5 / DIM**0.5 * torch.randn(*shape, DIM, generator=generator)

    centres = F.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=1)

    def sample(shots: int, views: int) -> Samples:
        labels = torch.arange(CLASSES).repeat(shots)  # so that a part of them has all classes
        pooled = near(near(centres[labels], len(labels))[:, None], len(labels), views)
        spatial = None
        if method.spatial_kind == "unprojected":
            spatial = torch.randn(len(labels), views, 1, WIDTH, generator=generator).half()
        elif method.reads_spatial:
            held = min(len(labels), steps * method.settings.batch_size)
            spatial = torch.randn(held, views, TOKENS, DIM, generator=generator).half()
        return Samples(pooled, spatial, labels, Noise() if method.reads_images else None)

    prompts = make_prompts(method) if method.reads_text_tower else None
    vectors = near(centres, CLASSES)
    texts = Texts(F.normalize(vectors, dim=1), 100.0, means=vectors, made_of=prompts)
    views = VIEWS if method.reads_views else 1
    projection = torch.randn(DIM, WIDTH, generator=generator) / WIDTH**0.5, torch.zeros(DIM)
    return Task(
        texts, sample(SHOTS, views), sample(4, 1), seed=1, prompts=prompts, projection=projection
    )


def make_prompts(method: Method) -> Prompts:
    """Classes of ImageNet, and a tower or both with random weights."""
    make, name = (Towers, TOWERS) if method.reads_images else (TextTower, BACKBONE)
    tower = make(load_backbone(name, pretrained=None, device=CPU))
    return Prompts(open_clip.IMAGENET_CLASSNAMES[:CLASSES], tower)


if __name__ == "__main__":
    main()
