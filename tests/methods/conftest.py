"""Tasks of methods that read class names through a text tower."""

from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import NAMES
from vtclip.backbones.prompts import TextTower
from vtclip.methods.base import Images, Prompts, Texts


@pytest.fixture
def prompted(task, backbone):
    """A task of the small CLIP's own width, with its text tower."""
    generator = torch.Generator().manual_seed(0)
    prompts = Prompts(NAMES, TextTower(backbone))
    features = backbone.encode_classes(NAMES, ["a photo of a {}."])
    texts = Texts(features, 100.0, made_of=prompts)

    def widen(shots):
        pooled = torch.randn(*shots.pooled.shape[:2], 64, generator=generator)
        return replace(shots, pooled=pooled, spatial=None)

    return replace(task, texts=texts, train=widen(task.train), val=widen(task.val), prompts=prompts)


@pytest.fixture
def images(prompted):
    """The validation shots."""
    return Images(prompted.val.pooled[:, 0], None)
