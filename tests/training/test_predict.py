import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score

from tests.feature_files import read_features
from vtclip.data.layouts import SCHEMA
from vtclip.features.store import FeatureError, open_features_writer
from vtclip.features.texts import read_classes, write_texts
from vtclip.files import DamagedError, measure, read_record, write_record
from vtclip.methods import METHODS
from vtclip.methods.linear_probe import LinearProbeSettings
from vtclip.task import Images
from vtclip.training.calibration import COVERAGE, DECIDED, Calibration
from vtclip.training.predict import PredictionError, TrainedHead, predict_test


@pytest.fixture
def folder(tmp_path):
    """Three classes, six test images on two row groups of two files; two linear heads."""
    texts = torch.eye(3, 4)
    write_texts(tmp_path / "texts.parquet", list("abc"), texts, {"logit_scale": 10.0})
    generator = torch.Generator().manual_seed(0)
    for part in range(2):
        images = [f"{part}{row}" for row in range(3)]
        rows = pl.DataFrame({"image": images, "label": [0, 1, 2], "split": "test", "view": 0})
        with open_features_writer(tmp_path / f"test{part}.parquet", {}) as writer:
            writer.write(rows, torch.randn(3, 4, generator=generator), torch.zeros(3, 2, 4))
    for seed in (1, 2):
        head = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.zeros(3)}
        save_file(head, tmp_path / f"head{seed}.safetensors")
    return tmp_path


def predict(folder, heads=None, files=("test0", "test1"), **options):
    """The predictions of some heads, by default of both of the folder."""
    saved = [TrainedHead(1, seed, folder / f"head{seed}.safetensors") for seed in (2, 1)]
    features = [folder / f"{file}.parquet" for file in files]
    predict_test(
        "linear_probe", {}, folder / "texts.parquet", heads or saved, features,
        folder / "predictions.parquet", device=torch.device("cpu"), **options,
    )  # fmt: skip
    return pl.read_parquet(folder / "predictions.parquet")


def test_every_head_predicts_every_test_image_once(folder):
    predictions = predict(folder)
    assert predictions.select("shots", "seed").unique().height == 2
    for _, group in predictions.group_by("seed"):
        assert group["image"].to_list() == ["00", "01", "02", "10", "11", "12"]


def test_predictions_are_those_of_each_head_alone(folder):
    predictions = predict(folder).filter(seed=2)
    head = load_file(folder / "head2.safetensors")
    pooled = torch.cat([read_features(folder / f"test{part}.parquet").pooled for part in (0, 1)])
    logits = torch.nn.functional.normalize(pooled.float(), dim=-1) @ head["weight"].T
    assert predictions["prediction"].to_list() == logits.argmax(1).tolist()
    expected = logits.softmax(1).amax(1).tolist()
    assert predictions["confidence"].to_list() == pytest.approx(expected, abs=1e-5)
    assert predictions["top"].to_list() == logits.argsort(1, descending=True).tolist()
    assert accuracy_score(predictions["label"], predictions["prediction"]) <= 1


def test_a_head_of_a_fold_predicts_the_test_views_of_that_fold_alone(folder):
    for part in range(2):
        images = [f"a{part}", f"a{part}", f"b{part}"]
        rows = {"image": images, "label": [0, 0, 1], "split": f"fold{part}", "view": [0, 1, 0]}
        with open_features_writer(folder / f"test{part}.parquet", {}) as writer:
            writer.write(pl.DataFrame(rows), torch.ones(3, 4), torch.zeros(3, 2, 4))
    predictions = predict(
        folder,
        [TrainedHead(1, 1, folder / f"head{n + 1}.safetensors", f"fold{n}") for n in range(2)],
    )
    assert predictions["image"].to_list() == ["a0", "b0", "a1", "b1"]
    heads = predictions.group_by("image", maintain_order=True).agg(pl.col("confidence").first())
    assert heads["confidence"][0] != heads["confidence"][2]


def save_head(folder, classes=3, value=1.0, name="head1"):
    head = {"weight": torch.full((classes, 4), value), "bias": torch.zeros(classes)}
    save_file(head, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def test_a_damaged_head_is_refused_by_name(folder):
    head = save_head(folder, name="head")
    write_record(folder / "run.json", measure(head) | {"classes": 3})
    content = bytearray(head.read_bytes())
    content[-5] ^= 1
    head.write_bytes(content)
    with pytest.raises(DamagedError, match=r"head\.safetensors: the file is damaged.*Delete it"):
        predict(folder, [TrainedHead(1, 1, head)])


def test_a_head_cut_short_is_refused_by_name(folder):
    head = folder / "head1.safetensors"
    head.write_bytes(head.read_bytes()[:-3])
    with pytest.raises(DamagedError, match=r"head1\.safetensors: the file is damaged"):
        predict(folder)


def test_a_head_of_another_number_of_classes_is_refused_by_name(folder):
    save_head(folder, classes=5)
    with pytest.raises(PredictionError, match=r"head1\.safetensors: expected a head of 3 classes"):
        predict(folder)


RECORD = {"method": "linear_probe", "dataset": "abc", "classes": 3, "shots": 1, "seed": 1}
FEATURES = {"backbone": "glyph-clip", "spatial": "projected", "precision": "float32"}


def predict_recorded(folder, record):
    """Predict with a head that has a record."""
    rows = pl.DataFrame({"image": ["a"], "label": [0], "split": "test", "view": 0})
    with open_features_writer(folder / "test.parquet", FEATURES) as writer:
        writer.write(rows, torch.ones(1, 4), torch.zeros(1, 2, 4))
    head = save_head(folder, name="head")
    write_record(folder / "run.json", measure(head) | record)
    predict(folder, [TrainedHead(1, 1, head)], ["test"], tested="abc")


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "tip_adapter"), ("dataset", "abd"), ("classes", 4), ("shots", 2), ("seed", 3)],
)
def test_a_head_whose_record_is_of_another_run_is_refused_by_name(folder, key, value):
    predict_recorded(folder, RECORD)
    expected = rf"head\.safetensors: expected .*{key} {RECORD[key]}, found one of {key} {value}"
    with pytest.raises(PredictionError, match=expected):
        predict_recorded(folder, RECORD | {key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("backbone", "RN50"), ("spatial", "raw"), ("precision", "float16")]
)
def test_a_head_that_was_trained_on_other_features_is_refused_by_name(folder, key, value):
    predict_recorded(folder, RECORD | {"features": FEATURES})
    with pytest.raises(FeatureError, match=rf"run\.json: {key}: expected .*found '{value}'"):
        predict_recorded(folder, RECORD | {"features": FEATURES | {key: value}})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused_with_head_and_image(folder, value):
    save_head(folder, value=value)
    with pytest.raises(PredictionError, match=r"head1\.safetensors: 00: the logit of class 0"):
        predict(folder)


def write_manifest(folder, images):
    rows = [(image, int(image[1]), "abc"[int(image[1])], "test") for image in images]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    table.write_parquet(folder / "manifest.parquet")
    return folder / "manifest.parquet"


def test_features_of_all_test_images_pass_and_of_half_of_them_do_not(folder):
    images = ["00", "01", "02", "10", "11", "12"]
    predict(folder, manifest=write_manifest(folder, images))
    with pytest.raises(FeatureError, match="expected the 9 test images"):
        predict(folder, manifest=write_manifest(folder, [*images, "20", "21", "22"]))


def test_texts_in_another_order_are_refused(folder):
    write_texts(folder / "texts.parquet", list("bac"), torch.eye(3, 4), {"logit_scale": 10.0})
    manifest = write_manifest(folder, ["00", "01", "02", "10", "11", "12"])
    with pytest.raises(FeatureError, match="class 0: expected 'a'"):
        predict(folder, manifest=manifest)


def test_a_label_without_a_text_is_refused(folder):
    write_texts(folder / "texts.parquet", list("ab"), torch.eye(2, 4), {"logit_scale": 10.0})
    with pytest.raises(FeatureError, match="02: label 2: .* has classes 0 to 1"):
        predict(folder)


def test_the_receipt_has_the_test_of_each_heads_calibration(folder):
    assert "calibration" in read_predicted(folder)
    calibration = Calibration.fit(
        torch.randn(12, 3), torch.arange(12) % 3, torch.rand(12), torch.eye(3, 4)
    )
    head = folder / "head1.safetensors"
    save_file(load_file(head) | calibration.tensors(), head)
    without, found = read_predicted(folder)["calibration"][::-1]
    assert without == {"shots": 1, "seed": 2} | dict.fromkeys(DECIDED)
    assert found["refused"] is None  # it takes 19 images
    texts, _ = read_classes(folder / "texts.parquet")
    weights = load_file(head)
    classifier = METHODS["linear_probe"](LinearProbeSettings()).classifier(weights, texts)
    parts = [read_features(folder / f"test{part}.parquet").pooled for part in (0, 1)]
    pooled = torch.cat(parts).float()
    chosen, _ = calibration.rules(COVERAGE).apply(classifier(Images(pooled, None)), pooled)
    labels = torch.arange(6) % 3
    assert found["covered"] == pytest.approx(chosen[range(6), labels].float().mean().item())
    assert found["set_size"] == pytest.approx(chosen.sum(1).float().mean().item())


def read_predicted(folder):
    assert "set_size" not in predict(folder).columns
    return read_record(folder / "predictions.json")
