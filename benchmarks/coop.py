"""A training step that learns words against the step that takes whole prompts through the tower.

Both are the method's own learner on random weights, forward, backward and SGD, measured in turn in
one process; memory is measured in a process each, as what a step adds. Whole prompts of more
classes than `--whole` are reckoned from so many: each costs the same. Class names are ImageNet's,
or for the first row those of a split file of CoOp's, such as split_zhou_Caltech101.json.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import open_clip
import torch
import torch.nn.functional as F
from measuring import added_memory, count_launches, describe_device, measure_alone, time_in_turn
from torch import Tensor

from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.prompts import TextTower, pack
from vtclip.methods import METHODS
from vtclip.task import Images, Prompts, Samples, Task, Texts
from vtclip.training.optimise import optimise

BACKBONE = "RN50-quickgelu"
START = 17  # tokens that CoOp's prompts share
LEARNING_WORDS = ("coop", "kgcoop", "prograd", "cocoop")


class WholePrompts(TextTower):
    """The text tower that takes every token of every prompt."""

    def _reader(self, tokens: Tensor, first: int, words: int) -> Callable[[Tensor], Tensor]:
        return self._whole_reader(tokens, first, words)


TOWERS = {"whole prompts": WholePrompts, "ours": TextTower}


def main() -> None:
    arguments = parse_arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        names = read_names(arguments.names, *arguments.classes)
        step, _ = make_step(arguments, TOWERS[arguments.memory_of], names, device)
        print(added_memory(step, device))
        return
    print(f"{METHODS[arguments.method].title}, {arguments.backbone}, {describe_device(device)}")
    launches = count_step(arguments.method, arguments.backbone)
    print(f"A step on a GPU launches {launches} operations.")
    for classes in arguments.classes:
        packed, padded = count_tokens(arguments.backbone, read_names(arguments.names, classes))
        print(f"There the prompts of K = {classes} are {packed:,} tokens; padded, {padded:,}.")
    print()
    print("| K | step | seconds | speed, of the whole | memory, MB | of the whole's |")
    print("|---:|---|---:|---:|---:|---:|")
    for classes in arguments.classes:
        report(classes, arguments, device)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--method", choices=LEARNING_WORDS, default="coop")
    parser.add_argument("--names", type=Path, help="a split file of CoOp's, for its class names")
    parser.add_argument("--whole", type=int, default=100, help="most classes with whole prompts")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", choices=TOWERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def read_names(split: Path | None, classes: int) -> list[str]:
    """So many class names: those of the split file if it has as many, else ImageNet's."""
    if split is not None:
        names = sorted({name for _, _, name in json.loads(split.read_text())["train"]})
        if len(names) == classes:
            return names
    return open_clip.IMAGENET_CLASSNAMES[:classes]


def make_step(
    arguments: argparse.Namespace,
    tower: type[TextTower],
    names: Sequence[str],
    device: torch.device,
) -> tuple[Callable[[], float], Tensor]:
    """One training step, which gives its loss, and the context that it trains."""
    method = METHODS[arguments.method](METHODS[arguments.method].settings_type())
    images = method.settings.batch_size
    task = make_task(arguments.backbone, tower, names, images, device)
    assert task.train is not None
    pooled, labels = task.train.pooled[:, 0], task.train.labels
    learner = method.learner(method.initial_head(task), task)
    context = learner.get_parameter("context")
    optimiser = torch.optim.SGD(learner.parameters(), 0.002, momentum=0.9)

    def step() -> float:
        optimiser.zero_grad()
        loss = F.cross_entropy(learner(Images(pooled, None)), labels)
        penalty = learner.penalty()
        if penalty is not None:
            loss = loss + penalty
        loss.backward()
        optimiser.step()
        return loss.item()

    return step, context


def make_task(
    backbone: str,
    tower: type[TextTower],
    names: Sequence[str],
    images: int,
    device: torch.device,
) -> Task:
    """Random shots of these classes, and a backbone with random weights."""
    torch.manual_seed(0)
    model = load_backbone(backbone, pretrained=None, device=device)
    texts = Texts(model.encode_classes(names, ["a photo of a {}."]), 100.0)
    pooled = torch.randn(images, texts.features.shape[1], device=device)
    labels = torch.randint(len(names), (images,), device=device)
    shots = Samples(pooled[:, None], None, labels)
    return Task(texts, shots, None, 0, Prompts(names, tower(model)))


def count_step(method: str = "coop", backbone: str = BACKBONE) -> int:
    """Launches of a step on a GPU in bfloat16, for any classes: of two steps, less those of one."""
    places = ("vtclip.backbones.prompts", "vtclip.runtime.devices")
    names, counts = read_names(None, 32), []
    trained = METHODS[method](METHODS[method].settings_type(epochs=1))
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch(f"{place}.has_bfloat16", return_value=True))
        for steps in (1, 2):
            images = steps * trained.settings.batch_size
            task = make_task(backbone, TextTower, names, images, torch.device("cpu"))
            learner = trained.learner(trained.initial_head(task), task)
            counts.append(count_launches(partial(optimise, learner, task, trained.settings)))
    return counts[1] - counts[0]


def count_tokens(backbone: str, names: Sequence[str]) -> tuple[int, int]:
    """Tokens of prompts in rows with their start, and of names padded to the longest."""
    lengths = open_clip.get_tokenizer(backbone)([f"{name}." for name in names]).argmax(dim=1)
    _, rows, own = pack(lengths, START).shape
    return rows * (START + own), len(names) * int(lengths.max())


def report(classes: int, arguments: argparse.Namespace, device: torch.device) -> None:
    taken = {"whole prompts": min(classes, arguments.whole), "ours": classes}
    names = {name: read_names(arguments.names, taken[name]) for name in TOWERS}
    made = {name: make_step(arguments, TOWERS[name], names[name], device) for name in TOWERS}
    steps = {name: step for name, (step, _) in made.items()}
    differences = compare(made)
    seconds = time_in_turn(steps, arguments.rounds, warm=True)
    del made, steps
    memory = {name: measure_memory(name, taken[name], arguments) for name in TOWERS}
    for measured in (seconds, memory):
        measured["whole prompts"] *= classes / taken["whole prompts"]
    for name in TOWERS:
        cells = [f"{seconds[name]:.3f}", f"{seconds['whole prompts'] / seconds[name]:.1f}"]
        cells += [f"{memory[name] / 1e6:,.0f}", f"{memory[name] / memory['whole prompts']:.3f}"]
        print(f"| {classes} | {name} | {' | '.join(cells)} |", flush=True)
    if taken["whole prompts"] == classes:
        print(f"| {classes} | {differences} | | | | |", flush=True)


def compare(made: dict[str, tuple[Callable[[], float], Tensor]]) -> str:
    """The distance of the first step's loss and gradient from those of whole prompts."""
    losses, gradients = {}, {}
    for name, (step, context) in made.items():
        losses[name] = step()
        assert context.grad is not None
        gradients[name] = context.grad.clone()
    whole, whole_gradient = losses["whole prompts"], gradients["whole prompts"]
    loss = abs(losses["ours"] - whole) / whole
    gradient = (gradients["ours"] - whole_gradient).norm() / whole_gradient.norm()
    return f"equal: loss to {loss:.0e}, gradient to {gradient:.0e}"


def measure_memory(name: str, classes: int, arguments: argparse.Namespace) -> float:
    """Bytes that a step adds, measured in a process of its own."""
    split = [] if arguments.names is None else ["--names", arguments.names]
    given = ["--classes", classes, "--backbone", arguments.backbone, "--threads", arguments.threads,
             "--method", arguments.method]  # fmt: skip
    return float(measure_alone("--memory-of", name, *given, *split))


if __name__ == "__main__":
    main()
