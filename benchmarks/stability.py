"""Training of VT-CLIP at the real shapes, where a wrong learning rate drowns the texts.

Invented features: an image's pooled feature holds a little of its class's text, as in CLIP, and so
do some of its spatial tokens. The logit scale is 100. A training is steady if its loss never rises
far above its start, at the default learning rate and at three times it.
"""

import argparse

import torch
import torch.nn.functional as F

from vtclip.methods.base import Shots, Task, Texts
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.training.optimise import optimise

TOKENS = 50


def make_task(classes: int, dim: int, images: int) -> Task:
    """Random texts, and images of random classes whose zero-shot accuracy is high, not perfect."""
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(classes, dim, generator=generator), dim=-1)
    labels = torch.randint(classes, (images,), generator=generator)
    noise = F.normalize(torch.randn(images, TOKENS, dim, generator=generator), dim=-1)
    spatial = noise + 0.1 * texts[labels][:, None]
    # The cosine with the own text is near 0.15, five times the spread of the others at D = 1,024.
    pooled = F.normalize(torch.randn(images, dim, generator=generator), dim=-1)
    pooled = pooled + 0.15 * texts[labels]
    return Task(Texts(texts, 100.0), Shots(pooled[:, None], spatial[:, None], labels), None, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--steps", type=int, default=40, help="for up to 100 classes")
    parser.add_argument("--steps-of-many", type=int, default=12, help="for more classes")
    arguments = parser.parse_args()
    print("| D | K | learning rate | steps | loss at the start | largest | at the end |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for dim in arguments.dims:
        for classes in arguments.classes:
            steps = arguments.steps if classes <= 100 else arguments.steps_of_many
            # One batch an epoch: the history then tells every step.
            task = make_task(classes, dim, images=32)
            for factor in (1, 3):
                rate = factor * min(1e-3, 0.1 / dim)
                method = VTClip(VTClipSettings(epochs=steps, learning_rate=rate))
                classifier = method.classifier(method.start(task), task.texts)
                losses = optimise(classifier, task, method.settings)["loss"]
                print(
                    f"| {dim} | {classes} | {rate:.1e} ({factor}x) | {steps} "
                    f"| {losses[0]:.3f} | {losses.max():.3f} | {losses[-1]:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
