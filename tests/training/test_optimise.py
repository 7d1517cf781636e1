import importlib
import math
import shutil
from dataclasses import replace

import pytest
import torch

from tests.project import ROOT
from vtclip.methods.base import Images, Recipe
from vtclip.methods.clip_adapter import CLIPAdapter, CLIPAdapterSettings
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.task import Choices
from vtclip.training.optimise import TrainingError, optimise


def train(task, **settings):
    """The history of a training of VT-CLIP, and the classifier."""
    method = VTClip(VTClipSettings(**settings))
    classifier = method.classifier(method.initial_head(task), task.texts)
    return optimise(classifier, task, method.settings), classifier


def assert_same(one, other):
    weights, others = one.state_dict(), other.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_the_loss_falls_and_the_shots_are_learned(task):
    history, _ = train(task, epochs=150, learning_rate=1e-3, batch_size=4)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["train_accuracy"][-1] > 0.9
    assert history.height == 150
    assert history["val_accuracy"].is_between(0, 1).all()


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_zero(task):
    history, _ = train(task, epochs=20, learning_rate=1e-3, batch_size=12, warmup=0.2)
    rates = history["learning_rate"].to_list()
    assert rates.index(max(rates)) == 4
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_coops_learning_rate_is_small_for_an_epoch_and_then_falls_from_epoch_to_epoch(task):
    recipe = CLIPAdapterSettings(epochs=4, learning_rate=0.1, batch_size=5)
    method = CLIPAdapter(recipe)
    history = optimise(method.learner(method.initial_head(task), task), task, recipe)
    falling = [0.05 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(3)]
    assert history["learning_rate"].to_list() == pytest.approx([1e-5, *falling])


def test_a_dropped_batch_is_not_learned_from(task):
    """Of twelve images in batches of five, two are left out in each epoch."""
    seen = []

    class Watched(torch.nn.Linear):
        def forward(self, images):
            seen.append(len(images.pooled))
            return super().forward(images.pooled)

    recipe = VTClipSettings(epochs=2, batch_size=5, last_batch="drop", stop_at_loss=None)
    history = optimise(Watched(16, 4), replace(task, val=None), recipe)
    assert seen == [5, 5, 5, 5]
    assert history["train_accuracy"].is_between(0, 1).all()
    seen.clear()
    optimise(Watched(16, 4), replace(task, val=None), recipe.model_copy(update={"batch_size": 20}))
    assert seen == [12, 12]


def test_training_again_gives_the_same_weights_bit_for_bit(task):
    _, once = train(task, epochs=3)
    torch.rand(3)
    _, again = train(task, epochs=3)
    assert_same(once, again)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_both_optimisers_lower_the_loss(task, optimiser):
    rate = {"adamw": 1e-3, "sgd": 1e-2}[optimiser]
    more = {"clip_gradient": 1.0, "label_smoothing": 0.1}
    history, _ = train(task, epochs=30, learning_rate=rate, optimiser=optimiser, **more)
    assert history["loss"][-1] < history["loss"][0]


def test_the_best_epoch_on_the_validation_shots_is_kept_where_the_recipe_says_so(task):
    history, classifier = train(task, epochs=30, learning_rate=3e-3, select="val")
    classifier.eval()
    with torch.no_grad():
        logits = classifier(Images(task.val.pooled[:, 0], task.val.spatial[:, 0]))
    kept = (logits.argmax(1) == task.val.labels).float().mean().item()
    assert kept == pytest.approx(history["val_accuracy"].max())


def test_accuracy_on_the_validation_shots_is_measured_ten_times_and_at_the_end(task):
    history, _ = train(task, epochs=40)
    measured = history.filter(history["val_accuracy"].is_not_null())
    assert measured["epoch"].to_list() == list(range(4, 41, 4))


def test_of_epochs_with_equal_hits_the_likeliest_is_kept(task):
    """Its shots are its own validation shots: hits stand at their most while the loss falls on."""
    task = replace(task, val=replace(task.train, pooled=task.train.pooled[:, :1]))
    recipe = Recipe(epochs=300, batch_size=12, learning_rate=0.01, select="val")

    class Linear(torch.nn.Linear):
        def forward(self, images: Images):
            return super().forward(images.pooled)

    trained = {}
    for select in ("last", "val"):
        torch.manual_seed(0)
        trained[select] = Linear(16, 4)
        history = optimise(
            trained[select], task, recipe.model_copy(update={"select": select, "warmup": 0.0})
        )
    assert history["val_accuracy"].eq(1).sum() > 10
    likely = {
        select: -torch.nn.functional.cross_entropy(
            classifier(Images(task.val.pooled[:, 0], None)), task.val.labels
        ).item()
        for select, classifier in trained.items()
    }
    first = int(history["val_accuracy"].arg_max())
    assert first < 290
    assert likely["val"] >= likely["last"]
    assert torch.allclose(trained["val"].weight, trained["last"].weight, atol=0.01)


def test_a_training_that_repeats_a_choice_ends_at_the_same_share_of_its_epochs(task):
    recipe = {"epochs": 20, "learning_rate": 1e-3, "select": "val"}
    history, _ = train(replace(task, val=None, choices=Choices([0.3])), **recipe)
    whole, _ = train(task, **recipe)
    assert history.height == 6
    assert history["loss"].equals(whole["loss"][:6])
    assert history["learning_rate"].equals(whole["learning_rate"][:6])


def test_a_training_ends_after_the_epoch_whose_loss_is_low_enough(task):
    whole, stopped = (
        train(task, epochs=60, learning_rate=1e-3, stop_at_loss=limit)[0]["loss"]
        for limit in (None, 10.0)
    )
    assert whole.len() == 60 > stopped.len()
    assert (stopped[:-1] > 10).all()
    assert stopped[-1] <= 10
    assert stopped.equals(whole[: stopped.len()])  # up to there it is the same training


def test_a_loss_that_is_no_number_stops_with_step_loss_and_learning_rate(task):
    class Breaks(torch.nn.Linear):
        steps = 0

        def forward(self, images: Images):
            self.steps += self.training
            return super().forward(images.pooled) * (math.nan if self.steps == 5 else 1)

    recipe = Recipe(epochs=4, batch_size=4, learning_rate=1e-3, warmup=0)
    with pytest.raises(TrainingError, match=r"loss is nan in step 5 at learning rate 0\.00075"):
        optimise(Breaks(16, 4), task, recipe)


def test_features_that_stay_in_half_precision_train_as_their_float32_values_do(task):
    half = replace(task.train, spatial=task.train.spatial.half())
    full = replace(task.train, spatial=half.spatial.float())
    assert_same(*(train(replace(task, train=shots), epochs=2)[1] for shots in (half, full)))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_a_compiled_training_ends_where_the_plain_one_does(task):
    losses = [train(task, epochs=5, compile=compiled)[0]["loss"] for compiled in (False, True)]
    assert not torch._dynamo.utils.counters["graph_break"]  # the host has no part in a step
    assert losses[1].to_list() == pytest.approx(losses[0].to_list(), abs=1e-3)


@pytest.mark.parametrize(("benchmark", "launches"), [("grid", 127), ("coop", 374)])
def test_a_step_of_vt_clip_and_of_coop_takes_few_launches_on_a_gpu(
    monkeypatch, benchmark, launches
):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    assert importlib.import_module(benchmark).count_step() <= launches
