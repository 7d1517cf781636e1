"""Methods take shots of which classes have another number each, and some have none."""

from dataclasses import replace

import pytest
import torch

from vtclip.methods import METHODS
from vtclip.methods.base import Images, Recipe, Samples
from vtclip.training.optimise import optimise

NAMES = (
    "linear_probe", "clip_adapter", "tip_adapter", "tip_adapter_f", "vt_clip", "taskres", "zs_lp",
    "clap", "ss_text",
)  # fmt: skip
ROWS = [0, 1, 2, 3, 9, 10]  # of classes 0, 0, 0, 1, 3, 3


@pytest.mark.parametrize("name", NAMES)
def test_uneven_shots_make_a_head_of_all_classes(name, task):
    shots = task.train
    some = Samples(shots.pooled[ROWS], shots.spatial[ROWS], shots.labels[ROWS])
    task, kind = replace(task, train=some), METHODS[name]
    settings = {"epochs": 2} if issubclass(kind.settings_type, Recipe) else {}
    method = kind(kind.settings_type(**settings))
    head = method.initial_head(task)
    learner = method.learner(head, task)
    if learner is not None:
        optimise(learner, task, method.settings)
        head = method.finish(learner, task)
    classify = method.classifier(head, task.texts)
    with torch.inference_mode():
        logits = classify(Images(task.val.pooled[:, 0], task.val.spatial[:, 0]))
    assert logits.shape == (12, 4)
    assert logits.isfinite().all()
