"""Computations as one would do them on paper: in loops, in double precision, with gradients."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vtclip.backbones.backbone import Backbone
from vtclip.methods.base import Head, Images, Method, Samples, Task, Texts
from vtclip.training.train import fit

NAMES = ["ant", "polar_bear", "cow", "dog"]


def train(method: Method, task: Task) -> Head:
    """The whole of a method's head."""
    return fit(method, task, torch.device("cpu"))[0]


def classify(method: Method, task: Task, pooled: Tensor) -> Tensor:
    """The logits of some images (B, D), with the head that the method starts from."""
    return method.classifier(method.initial_head(task), task.texts)(Images(pooled, None))


def assert_equal_to_size(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """Every number within a share of the largest."""
    assert found.shape == expected.shape
    furthest, size = (found.double() - expected).abs().max().item(), expected.abs().max().item()
    assert furthest <= share * size, f"{furthest:.3g} apart, of {size:.3g}"


def in_double(task: Task, *, scale: float = 10.0, views: int = 1) -> Task:
    """The task in double precision, with the first views of its training images."""
    texts = Texts(task.texts.features.double(), scale, task.texts.means.double())
    train = Samples(task.train.pooled[:, :views].double(), None, task.train.labels)
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


def encode_by_hand(backbone: Backbone, context: Tensor, names: Sequence[str]) -> Tensor:
    """The texts (K, D) of words before class names, of unit length, by open_clip's own modules."""
    model, words = deepcopy(backbone.model).double(), " ".join("X" * len(context))
    texts = []
    for name in names:
        tokens = backbone.tokenizer([f"{words} {name.replace('_', ' ')}."])
        embedded = model.token_embedding(tokens)[0]
        embedded = torch.cat([embedded[:1], context.double(), embedded[1 + len(context) :]])
        hidden = model.transformer((embedded + model.positional_embedding)[None], model.attn_mask)
        text = model.ln_final(hidden)[0, tokens[0].argmax()] @ model.text_projection
        texts.append(text / text.norm())
    return torch.stack(texts)
