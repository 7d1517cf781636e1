"""Training of one vector a class as one would do it on paper: in loops, with gradients by hand."""

import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from vtclip.methods.base import Samples, Task, Texts


def in_double(task: Task, *, scale: float = 10.0) -> Task:
    """The task in double precision, its training images in the test view alone."""
    texts = Texts(task.texts.features.double(), scale, task.texts.means.double())
    train = Samples(task.train.pooled[:, :1].double(), None, task.train.labels)
    val = Samples(task.val.pooled.double(), None, task.val.labels)
    return replace(task, texts=texts, train=train, val=val)


def length(vector) -> float:
    return math.sqrt(sum(number * number for number in vector))


def cosine_logits(vectors, pooled: Tensor, scale: float) -> np.ndarray:
    """scale * cos, pair by pair, (B, K)."""
    return np.array(
        [
            [scale * sum(image * vector) / (length(image) * length(vector)) for vector in vectors]
            for image in pooled.double().numpy()
        ]
    )


def softmax(row) -> np.ndarray:
    powers = [math.exp(logit) for logit in row]
    return np.array([power / sum(powers) for power in powers])


def gradient(vectors, task: Task) -> np.ndarray:
    """Of the mean cross-entropy over the training images by the vectors, (K, D)."""
    scale, pooled, labels = task.texts.logit_scale, task.train.pooled[:, 0], task.train.labels
    found = np.zeros_like(vectors)
    for image, row, label in zip(
        pooled.double().numpy(), cosine_logits(vectors, pooled, scale), labels, strict=True
    ):
        image = image / length(image)
        for k, (vector, share) in enumerate(zip(vectors, softmax(row), strict=True)):
            unit = vector / length(vector)
            turn = (image - sum(image * unit) * unit) / length(vector)  # of the cosine
            found[k] += (share - (k == int(label))) * scale * turn / len(labels)
    return found


def rates(peak: float, steps: int) -> list[float]:
    """The learning rates of a cosine without warm-up."""
    return [peak * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
