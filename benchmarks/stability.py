"""Training of VT-CLIP at the real shapes, where a wrong learning rate drowns the texts.

Invented features: an image's pooled feature has a little of its class's text, as in CLIP, and so
do some of its spatial tokens. The logit scale is 100. A training is steady if its loss never rises
far above its start, at the default learning rate and at three times it.
"""

import argparse

import torch
import torch.nn.functional as F

from vtclip.methods.base import Images, Samples, Task, Texts
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.methods.zero_shot import ZeroShot
from vtclip.settings import Settings
from vtclip.training.optimise import optimise

TOKENS = 50


def make_images(texts: torch.Tensor, number: int, generator: torch.Generator) -> Samples:
    """Images of random classes, each with a little of its class's text."""
    classes, dim = texts.shape
    labels = torch.randint(classes, (number,), generator=generator)
    noise = F.normalize(torch.randn(number, TOKENS, dim, generator=generator), dim=-1)
    spatial = noise + 0.1 * texts[labels][:, None]
    # The cosine with the own text is near 0.12, four times the spread of the others at D = 1,024.
    pooled = F.normalize(torch.randn(number, dim, generator=generator), dim=-1)
    pooled = pooled + 0.12 * texts[labels]
    return Samples(pooled[:, None], spatial[:, None], labels)


def make_task(classes: int, dim: int) -> Task:
    """Random texts, 128 images to learn from and 256 others."""
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(classes, dim, generator=generator), dim=-1)
    train, val = (make_images(texts, number, generator) for number in (128, 256))
    return Task(Texts(texts, 100.0), train, val, 0)


def zero_shot(task: Task) -> tuple[float, float]:
    """Loss on the images to learn from, and accuracy on the others."""
    logits = ZeroShot(Settings()).classifier({}, task.texts)
    train, val = (Images(shots.pooled[:, 0], None) for shots in (task.train, task.val))
    loss = F.cross_entropy(logits(train), task.train.labels).item()
    return loss, (logits(val).argmax(dim=1) == task.val.labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--epochs", type=int, default=10, help="of 4 steps, up to 100 classes")
    parser.add_argument("--epochs-of-many", type=int, default=3, help="for more classes")
    arguments = parser.parse_args()
    print("Loss on the images that are learned from: zero-shot, the largest of an epoch, the last;")
    print("accuracy on others: zero-shot, the least after an epoch, the last.\n")
    print("| D | K | learning rate | steps | loss | accuracy |")
    print("|---:|---:|---:|---:|---:|---:|")
    for dim in arguments.dims:
        for classes in arguments.classes:
            epochs = arguments.epochs if classes <= 100 else arguments.epochs_of_many
            for factor in (1, 3):
                print(train(make_task(classes, dim), factor, epochs), flush=True)


def train(task: Task, factor: int, epochs: int) -> str:
    """A row of the table: a training at some times the default learning rate."""
    classes, dim = task.texts.features.shape
    rate = factor * min(1e-3, 0.1 / dim)
    method = VTClip(VTClipSettings(epochs=epochs, learning_rate=rate))
    history = optimise(method.learner(method.initial_head(task), task), task, method.settings)
    losses, accuracies = history["loss"], history["val_accuracy"]
    loss, accuracy = zero_shot(task)
    return (
        f"| {dim} | {classes} | {rate:.1e} ({factor}x) | {4 * epochs} "
        f"| {loss:.2f} / {losses.max():.2f} / {losses[-1]:.2f} "
        f"| {accuracy:.2f} / {accuracies.min():.2f} / {accuracies[-1]:.2f} |"
    )


if __name__ == "__main__":
    main()
