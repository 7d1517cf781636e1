"""Heads on other classes than their own: new ones by their texts, or some of those they know."""

import json

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from vtclip.backbones.prompts import TextTower
from vtclip.data.layouts import IDENTITIES, SCHEMA
from vtclip.data.walk import ManifestError
from vtclip.features.store import FeatureError, open_features_writer
from vtclip.features.texts import write_texts
from vtclip.files import measure, write_record
from vtclip.methods import METHODS
from vtclip.methods.base import Images, Prompts, Texts
from vtclip.parquet import write_parquet
from vtclip.training.predict import PredictionError, Trained, TrainedHead, predict_test

CPU = torch.device("cpu")
CODES = torch.eye(6, 8)  # what an image of each known class looks like


def write_dataset(folder, name, classes, identities=None, **metadata):
    """Texts, test features and manifest of a dataset whose label k is known as `classes[k]`."""
    names = [f"class {known}" for known in classes]
    rows = [(f"{name}/{label}.png", label, names[label], "test") for label in range(len(classes))]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    found = {} if identities is None else {IDENTITIES: json.dumps(identities).encode()}
    write_parquet(folder / f"{name}-manifest.parquet", table, found)
    texts = torch.nn.functional.normalize(CODES[classes] + 0.1, dim=-1)
    write_texts(folder / f"{name}-texts.parquet", names, texts, {"logit_scale": 10.0} | metadata)
    with open_features_writer(folder / f"{name}-test.parquet", metadata) as writer:
        rows = table.with_columns(view=pl.lit(0))
        writer.write(rows, CODES[classes], torch.zeros(len(classes), 1, 8))


def predict(folder, tested, method="linear_probe", half="", head=None, **options):
    """Predictions of a head that knows each class by its code."""
    head = {"weight": 10 * CODES, "bias": torch.zeros(6)} if head is None else head
    save_file(head, folder / "head.safetensors")
    dataset = Trained("known", folder / "known-texts.parquet", folder / "known-manifest.parquet")
    predict_test(
        method, {}, folder / f"{tested}-texts.parquet",
        [TrainedHead(1, 1, folder / "head.safetensors")],
        [folder / f"{tested}-test.parquet"], folder / "predictions.parquet", device=CPU,
        manifest=folder / f"{tested}-manifest.parquet", tested=f"{tested}{half}",
        **{"trained": None if tested == "known" else dataset} | options,
    )  # fmt: skip
    return pl.read_parquet(folder / "predictions.parquet")


@pytest.fixture
def known(tmp_path):
    """A dataset of six classes, whose head is asked."""
    write_dataset(tmp_path, "known", list(range(6)), list("abcdef"))
    return tmp_path


def test_some_of_the_known_classes_are_distinguished_by_what_they_are(known):
    write_dataset(known, "some", [4, 1, 5], ["e", "b", "f"])  # in an order of their own
    predictions = predict(known, "some")
    assert predictions["prediction"].to_list() == predictions["label"].to_list() == [0, 1, 2]
    assert [len(top) for top in predictions["top"]] == [3, 3, 3]


def test_known_classes_are_never_found_by_their_names(known):
    write_dataset(known, "some", [4, 1, 5], ["e", "b", "c"])  # 'class 5' that is another class
    assert predict(known, "some")["prediction"].to_list()[2] != 2


def test_a_class_that_the_head_does_not_know_is_an_error_with_its_name(known):
    write_dataset(known, "some", [4, 1], ["e", "x"])
    with pytest.raises(ManifestError, match=r"some-manifest.*known-manifest.* has no class 'x'"):
        predict(known, "some")


def test_where_labels_are_all_there_is_the_number_of_classes_must_be_the_same(tmp_path):
    write_dataset(tmp_path, "known", list(range(6)))
    write_dataset(tmp_path, "shifted", list(range(6)))
    write_dataset(tmp_path, "fewer", [0, 1])
    assert predict(tmp_path, "shifted")["prediction"].to_list() == list(range(6))
    with pytest.raises(ManifestError, match=r"expected the 6 classes of .*, found 2"):
        predict(tmp_path, "fewer")


def test_a_known_class_has_the_text_of_the_test_set(known):
    write_dataset(known, "some", [4, 1, 5], ["e", "b", "f"])
    cache = {"keys": CODES, "labels": torch.arange(6)}
    weights = {"alpha": torch.tensor(0.0), "beta": torch.tensor(1.0)}  # the texts alone count
    confidence = predict(known, "some", "tip_adapter", head=cache | weights)["confidence"]
    other = torch.nn.functional.normalize(CODES[[5, 4, 1]], dim=-1)  # all texts in wrong places
    write_texts(known / "some-texts.parquet", ["class 4", "class 1", "class 5"], other,
                {"logit_scale": 10.0})  # fmt: skip
    predictions = predict(known, "some", "tip_adapter", head=cache | weights)
    assert predictions["prediction"].to_list() == [1, 2, 0]
    assert predictions["confidence"].to_list() != confidence.to_list()


def test_classes_that_a_head_never_saw_are_named_by_their_texts(known):
    write_dataset(known, "new", [3, 2, 0, 5], None)
    adapter = {"down": torch.zeros(2, 8), "up": torch.zeros(8, 2)}
    predictions = predict(known, "new", "clip_adapter", head=adapter)
    assert predictions["prediction"].to_list() == [0, 1, 2, 3]


@pytest.mark.parametrize(("half", "labels"), [("@base", [0, 1, 2]), ("@new", [3, 4, 5])])
def test_the_classes_of_a_half_are_distinguished_and_keeps_its_labels(known, half, labels):
    head = {"weight": 10 * CODES[labels], "bias": torch.zeros(3)}
    predictions = predict(known, "known", half=half, head=head)
    assert predictions["label"].to_list() == predictions["prediction"].to_list() == labels
    assert {label for top in predictions["top"] for label in top} == set(labels)


def test_a_head_of_all_classes_is_none_of_a_half(known):
    with pytest.raises(PredictionError, match="expected a head of 3 classes, found one of 6"):
        predict(known, "known", half="@new")


def test_texts_of_another_backbone_are_refused(tmp_path):
    write_dataset(tmp_path, "known", list(range(6)), backbone="RN50")
    write_dataset(tmp_path, "shifted", list(range(6)), backbone="ViT-B-16")
    with pytest.raises(FeatureError, match=r"backbone: expected 'RN50'.*found 'ViT-B-16'"):
        predict(tmp_path, "shifted")


def test_images_that_are_read_otherwise_are_refused_of_one_dataset_and_no_matter_of_another(
    tmp_path,
):
    write_dataset(tmp_path, "known", list(range(6)), list("abcdef"), exif="ignore")
    write_dataset(tmp_path, "some", [4, 1, 5], ["e", "b", "f"], exif="upright")
    predictions = predict(tmp_path, "some")
    assert predictions["prediction"].to_list() == predictions["label"].to_list()
    write_record(tmp_path / "run.json", measure(tmp_path / "head.safetensors") | {
        "shots": 1, "seed": 1, "features": {"exif": "upright"}
    })  # fmt: skip
    with pytest.raises(FeatureError, match="exif: expected 'ignore'"):
        predict(tmp_path, "known")


def test_coops_words_are_put_before_the_names_of_the_new_classes(backbone):
    coop = METHODS["coop"](METHODS["coop"].settings_type(context=2))
    tower = TextTower(backbone)
    context = 0.02 * torch.randn(2, tower.width, generator=torch.Generator().manual_seed(0))
    names = ["digit one", "letter A", "letter B"]
    head = coop.for_classes({"context": context, "texts": torch.zeros(9, 4)}, Prompts(names, tower))
    expected = tower.prompt_encoder(names, 2)(context)
    torch.testing.assert_close(head["texts"], expected)
    images = Images(expected[[2, 0]], None)
    logits = coop.classifier(head, Texts(torch.zeros(3, expected.shape[1]), 10.0))(images)
    assert logits.argmax(1).tolist() == [2, 0]


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].names_new_classes])
def test_a_method_that_names_new_classes_gives_logits_for_any_number_of_them(name, task, backbone):
    method = METHODS[name](METHODS[name].settings_type())
    if method.reads_text_tower:
        pytest.skip("its heads are renamed, which is tested above")
    head = method.initial_head(task)
    texts = Texts(torch.nn.functional.normalize(torch.randn(7, 16), dim=-1), 100.0)
    images = Images(task.val.pooled[:5, 0], task.val.spatial[:5, 0])
    renamed = method.for_classes(head, None)
    with torch.inference_mode():
        assert method.classifier(renamed, texts)(images).shape == (5, 7)
