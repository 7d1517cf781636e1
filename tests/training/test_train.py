import json
import math

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from vtclip.features.store import write_texts, writing_features
from vtclip.methods.base import Images, Recipe
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.training.train import TrainingError, optimise, train_head

CPU = torch.device("cpu")


def test_the_loss_falls_and_the_shots_are_learned(task):
    method = VTClip(VTClipSettings(epochs=150, learning_rate=1e-3, batch_size=4))
    classifier = method.classifier(method.start(task), task.texts)
    history = optimise(classifier, task, method.settings)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["train_accuracy"][-1] > 0.9
    assert history.height == 150
    assert history["val_accuracy"].is_between(0, 1).all()


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_zero(task):
    recipe = VTClipSettings(epochs=20, learning_rate=1e-3, batch_size=12, warmup=0.2)
    method = VTClip(recipe)
    history = optimise(method.classifier(method.start(task), task.texts), task, recipe)
    rates = history["learning_rate"].to_list()
    assert rates.index(max(rates)) == 3
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_training_again_gives_the_same_weights_bit_for_bit(task):
    method = VTClip(VTClipSettings(epochs=3))
    heads = []
    for _ in range(2):
        classifier = method.classifier(method.start(task), task.texts)
        optimise(classifier, task, method.settings)
        heads.append(classifier.state_dict())
        torch.rand(3)
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_both_optimisers_lower_the_loss(task, optimiser):
    rate = {"adamw": 1e-3, "sgd": 1e-2}[optimiser]
    recipe = VTClipSettings(
        epochs=30, learning_rate=rate, optimiser=optimiser, clip_gradient=1.0, label_smoothing=0.1
    )
    method = VTClip(recipe)
    history = optimise(method.classifier(method.start(task), task.texts), task, recipe)
    assert history["loss"][-1] < history["loss"][0]


def test_the_best_epoch_on_the_validation_shots_is_kept_where_the_recipe_says_so(task):
    recipe = VTClipSettings(epochs=30, learning_rate=3e-3, select="val")
    method = VTClip(recipe)
    classifier = method.classifier(method.start(task), task.texts)
    history = optimise(classifier, task, recipe)
    classifier.eval()
    with torch.no_grad():
        logits = classifier(Images(task.val.pooled[:, 0], task.val.spatial[:, 0]))
    kept = (logits.argmax(1) == task.val.labels).float().mean().item()
    assert kept == pytest.approx(history["val_accuracy"].max())


def test_a_loss_that_is_no_number_stops_with_epoch_loss_and_learning_rate(task):
    class Broken(torch.nn.Linear):
        def forward(self, images: Images):
            return super().forward(images.pooled) * math.nan

    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1 at learning rate 0\.00"):
        optimise(Broken(16, 4), task, Recipe(epochs=2, learning_rate=1e-3))


@pytest.fixture
def on_disk(tmp_path, task):
    """Texts, shots and features files; the features hold more images than the shots."""
    write_texts(
        tmp_path / "texts.parquet", list("abcd"), task.texts.features, {"logit_scale": 50.0}
    )
    images = pl.DataFrame(
        {
            "image": [f"{split}{row}.png" for split in ("train", "val") for row in range(12)],
            "label": task.train.labels.tolist() * 2,
            "split": ["train"] * 12 + ["val"] * 12,
        },
        schema_overrides={"label": pl.Int32},
    )
    views = pl.concat(
        [
            images.filter(split="train").join(pl.DataFrame({"view": [0, 1]}), how="cross"),
            images.filter(split="val").with_columns(view=pl.lit(0, pl.Int64)),
        ]
    )
    pooled = torch.cat([task.train.pooled.flatten(0, 1), task.val.pooled.flatten(0, 1)])
    spatial = torch.cat([task.train.spatial.flatten(0, 1), task.val.spatial.flatten(0, 1)])
    with writing_features(tmp_path / "features.parquet", {}) as writer:
        writer.write(views, pooled, spatial)
    # One image a class, in an order of their own.
    picked = images[[9, 0, 6, 3, 21, 12, 18, 15]].with_columns(class_name=pl.lit("?"))
    picked.write_parquet(tmp_path / "shots.parquet")
    return tmp_path


def train(folder, method="vt_clip", settings=None, few_shot=True):
    train_head(
        method, settings or {}, folder / "texts.parquet",
        folder / "shots.parquet" if few_shot else None,
        folder / "features.parquet" if few_shot else None,
        folder / "run", seed=1, device=CPU,
    )  # fmt: skip
    return json.loads((folder / "run" / "run.json").read_text())


def test_a_run_leaves_head_history_and_the_exact_settings(on_disk):
    run = train(on_disk, settings={"epochs": 2})
    assert run["settings"]["epochs"] == 2
    assert run["settings"]["heads"] == 8
    assert run["versions"]["torch"] == torch.__version__.split("+")[0]
    assert run["seconds"] > 0
    assert pl.read_parquet(on_disk / "run" / "history.parquet").height == 2
    assert "guide.blocks.0.to_image.part.query.weight" in load_file(
        on_disk / "run" / "head.safetensors"
    )


def test_only_the_picked_images_are_learned_from(on_disk, task):
    train(on_disk, "linear_probe", {"inverse_regularisation": [1e6]})
    head = load_file(on_disk / "run" / "head.safetensors")
    pooled = torch.nn.functional.normalize(task.train.pooled[:, 0].half().float(), dim=-1)
    hits = (pooled @ head["weight"].T + head["bias"]).argmax(1) == task.train.labels
    assert hits[[9, 0, 6, 3]].all()
    assert not hits.all()


def test_zero_shot_needs_no_image_and_has_an_empty_history(on_disk):
    train(on_disk, "zero_shot", few_shot=False)
    assert pl.read_parquet(on_disk / "run" / "history.parquet").is_empty()
