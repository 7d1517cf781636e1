import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from vtclip.features.store import write_texts, writing_features
from vtclip.training.train import train_head

CPU = torch.device("cpu")


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
