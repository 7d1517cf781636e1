import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vtclip.features.texts import write_texts
from vtclip.inference.attention import choose_rows, find_maps, plot_attention
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.task import Samples, Task, Texts


def predictions(hits):
    """A run's predictions; hits says which are right. Class 0 is always the best or the second."""
    return pl.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(hits))],
            "label": [0] * len(hits),
            "prediction": [0 if hit else 2 for hit in hits],
            "top": [[0, 1, 2] if hit else [2, 0, 1] for hit in hits],
            "shots": 4,
            "seed": 1,
        }
    )


def test_half_of_the_images_are_classified_rightly_and_half_wrongly():
    rows = choose_rows(predictions([True] * 60 + [False] * 40), 6)
    assert (rows["label"] == rows["prediction"]).to_list() == [True] * 3 + [False] * 3
    assert rows["image"].to_list() == ["0.png", "20.png", "40.png", "60.png", "73.png", "86.png"]


def test_where_no_image_is_classified_wrongly_only_right_ones_are_shown():
    assert choose_rows(predictions([True] * 5), 6)["image"].n_unique() == 3


@pytest.fixture
def run(tmp_path, backbone):
    """Four images, texts of three classes, and a head with random weights."""
    texts = torch.nn.functional.normalize(torch.randn(3, 64), dim=-1)
    metadata = {"logit_scale": 10.0}
    write_texts(tmp_path / "texts.parquet", ["ant", "bee", "$\\cow$"], texts, metadata)
    for number in range(4):
        Image.new("RGB", (40, 40), (60 * number, 0, 90)).save(tmp_path / f"{number}.png")
    shots = Samples(torch.zeros(1, 1, 64), torch.zeros(1, 1, 17, 64), torch.zeros(1).long())
    method = VTClip(VTClipSettings())
    torch.manual_seed(0)
    head = method.initial_head(Task(Texts(texts, 10.0), shots, None, 0))
    head = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in head.items()}
    save_file(head, tmp_path / "head.safetensors")
    predictions([True, True, False, False]).write_parquet(tmp_path / "predictions.parquet")
    return tmp_path


def test_maps_are_the_attention_of_the_two_classes_without_the_pooled_token(run, backbone):
    rows = pl.read_parquet(run / "predictions.parquet")
    maps = find_maps(backbone, {}, run / "texts.parquet", run / "head.safetensors", rows, run)
    assert [(each.label, each.other, each.right) for each in maps] == [
        ("ant", "bee", True), ("ant", "bee", True),
        ("ant", "$\\cow$", False), ("ant", "$\\cow$", False),
    ]  # fmt: skip
    for each in maps:
        assert each.of_label.shape == each.of_other.shape == (4, 4)
        assert not torch.equal(each.of_label, each.of_other)
        # 17 times the shares of 16 places; the share of the pooled token is missing.
        assert 0 < each.of_label.mean() < 17 / 16


def test_the_pictures_are_drawn_for_the_requested_run(run, backbone):
    other = pl.read_parquet(run / "predictions.parquet").with_columns(seed=2, image=pl.lit("no"))
    pl.concat([other, pl.read_parquet(run / "predictions.parquet")]).write_parquet(
        run / "predictions.parquet"
    )
    plot_attention(
        backbone, {}, run / "texts.parquet", run / "head.safetensors",
        run / "predictions.parquet", run, run / "attention", shots=4, seed=1,
    )  # fmt: skip
    assert (run / "attention.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (run / "attention.svg").read_text()
    assert "<!-- text “$\\cow$” (predicted) -->" in drawn
    assert "<!-- text “bee” (second) -->" in drawn
