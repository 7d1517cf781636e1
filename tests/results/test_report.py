"""The report: complete, self-contained, and what a user called something is text."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tests.results.conftest import make_run
from vtclip import __version__
from vtclip.data.shots import format_picks
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.files import DamagedError, write_receipt, write_record
from vtclip.parquet import write_parquet
from vtclip.paths import ALL, Example
from vtclip.results.differences import aggregate_differences
from vtclip.results.few_shot import aggregate_results
from vtclip.results.figures import plot_accuracy
from vtclip.results.footnotes import describe_provenance
from vtclip.results.metrics import aggregate_metrics
from vtclip.results.report import describe_calibration, embed_picture, find_shown, report
from vtclip.tensors import write_tensors
from vtclip.training.calibration import Calibration, nearest

ALERT, AND = "<script>alert(1)</script>", "a & b"
NAMES = [ALERT, AND, "cow"]
METHODS = ("zero_shot", "vt_clip")
DATASET = "pets & <b>"
SAMPLE = pl.DataFrame({"image": ["a.png"], "label": [0], "class_name": ["cow"], "split": ["train"]})


class Page(HTMLParser):
    """A page's text, elements, and the addresses that it loads from."""

    def __init__(self, content):
        super().__init__()
        self.texts, self.elements, self.addresses, self.inside = [], [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.inside.append(tag)
        loads = ("src", "href", "srcset", "action")
        self.addresses += [value for name, value in attributes if name in loads]
        self.texts += [value for name, value in attributes if name in ("alt", "title", "value")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" not in self.inside and "style" not in self.inside and data.strip():
            self.texts.append(data.strip())


def predictions(path, wrong, images=6, shots=1):
    """Six images of three classes in two seeds; `wrong` of them are taken for the next class."""
    rows = []
    for seed in (1, 2):
        for number in range(images):
            label = number % 3
            found = (label + 1) % 3 if number < wrong else label
            rows.append((shots, seed, f"{number}.png", label, found, 0.5 + 0.01 * number, [found]))
    schema = {
        "shots": pl.Int32, "seed": pl.Int32, "image": pl.String, "label": pl.Int32,
        "prediction": pl.Int32, "confidence": pl.Float32, "top": pl.List(pl.Int32),
    }  # fmt: skip
    write_parquet(path, pl.DataFrame(rows, schema=schema, orient="row"))


def record(folder, method):
    path = folder / f"{method}.json"
    write_record(
        path,
        {
            "method": method, "shots": 1, "seed": 1, "seconds": 2.5, "device": "cpu",
            "device_kind": "cpu", "precision": "float32", "peak_memory_bytes": 5e8,
            "peak_gpu_memory_bytes": 0, "versions": {"vtclip": "0.0.9", "torch": "2.6.0"},
            "settings": {"weight_decay": 0.25, "note": AND},
            "features": {"backbone": "RN50", "weights_sha256": "c0ffee", "device_kind": "cpu"}
        },
    )  # fmt: skip
    return str(path)


def draw_noise(path, height, width):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_learned(folder: Path) -> str:
    """Features of twenty images of two classes; the fifth has the label of the other class."""
    labels = [0] * 10 + [1] * 10
    pooled = torch.eye(3)[labels] + torch.randn(20, 3, generator=torch.manual_seed(0)) / 10
    labels[4] = 1
    rows = pl.DataFrame({"image": [f"{number}.png" for number in range(20)], "label": labels})
    with open_features_writer(folder / "learned.parquet", {}) as writer:
        spatial = torch.zeros(20, 1, 3)
        writer.write(rows.with_columns(split=pl.lit("train"), view=pl.lit(0)), pooled, spatial)
    return str(folder / "learned.parquet")


def write_copies(folder: Path) -> str:
    """A near-duplicate of a test image, and one of an image that is not predicted here."""
    rows = [("2.png", "4.png", 0.98, 3), ("99.png", "4.png", 0.98, 3)]
    schema = ["test_image", "image", "cosine", "bits"]
    write_parquet(folder / "copies.parquet", pl.DataFrame(rows, schema, orient="row"))
    return str(folder / "copies.parquet")


def write(
    folder: Path, *, wrong=2, datasets=(DATASET,), side=40, flipped="", best=None, shots=1
) -> str:
    """A report of hand-made results, and its content."""
    (folder / "images").mkdir(exist_ok=True)
    for number in range(5):  # the sixth image is not there any more
        draw_noise(folder / "images" / f"{number}.png", side, side)
    write_texts(folder / "texts.parquet", NAMES, torch.eye(3), {"logit_scale": 1.0})
    for method in METHODS:
        predictions(folder / f"{method}.parquet", wrong, shots=shots)
    texts = str(folder / "texts.parquet")
    runs = [
        make_run(
            dataset, method, folder / f"{method}.parquet", backbone="RN50", shots=shots, seed=1,
            record=record(folder, method), texts=texts
        )
        for dataset in datasets
        for method in METHODS
    ]  # fmt: skip
    aggregate_results(runs, folder / "results")
    aggregate_differences(runs, folder / "differences", reference="vt_clip")
    aggregate_metrics(runs, folder / "metrics", folder / "classes")
    plot_accuracy(folder / "results.parquet", folder / "accuracy", {})
    (folder / "config.yaml").write_text(f"name: mine  # {ALERT}\n")
    write_receipt(folder / "config.yaml")
    images, attention = str(folder / "images"), str(folder / "accuracy.png")
    write_record(folder / "best.json", best or {})
    if flipped:
        content = bytearray((folder / flipped).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / flipped).write_bytes(content)
    write_parquet(folder / "sample.parquet", SAMPLE)
    checked = {"learned": (write_learned(folder),), "copies": write_copies(folder)}
    report(
        folder / "report.html",
        runs=runs,
        examples=[
            Example("RN50", dataset, images, None, texts, attention, **checked)
            for dataset in datasets
        ],
        name=f"mine {ALERT}",
        titles={"vt_clip": "VT-CLIP"},
        reference="vt_clip",
        choices={"VT-CLIP": "Nothing: the last epoch is kept."},
        missing={"imagenet": f"takes an account {AND}"},
        tables={name: folder / f"{name}.parquet" for name in ("results", "differences", "metrics")},
        config=folder / "config.yaml",
        best=folder / "best.json",
        figures=[folder / "accuracy.svg"],
        picks={"pets/4shot-seed1.jsonl": folder / "sample.parquet"},
    )
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"))


def test_names_are_text_everywhere(content):
    page = Page(content)
    assert page.elements.count("script") == 1, "the page's own"
    assert "alert(1)</script>" not in content
    assert "a & b" not in content
    for name in (ALERT, AND, DATASET, f"mine {ALERT}", f"takes an account {AND}"):
        assert any(name in text for text in page.texts), name
    assert f"name: mine  # {ALERT}" in page.texts


def test_the_page_loads_nothing_from_outside(content):
    page = Page(content)
    assert [a for a in page.addresses if not a.startswith(("data:", "#"))] == []
    assert re.findall(r"https?://|url\(|@import|fetch\(|XMLHttp", content) == []
    assert "default-src 'none'" in content


def test_every_section_is_there_and_says_what_was_found(content):
    texts = Page(content).texts
    for found in (
        "Results", "Differences", "Mistakes", "Calibration", "Cost",
        "What was chosen on what", "Configuration", "Provenance",
        "66.7 ± 0.0",  # the accuracy
        "50.0 %",  # of the images of class 0 are predicted as class 1
        "Nothing: the last epoch is kept.", "c0ffee", "2.6.0", "2.5",
    ):  # fmt: skip
        assert found in texts, found
    assert any(text.startswith(f"{AND}, predicted as cow (51 %)") for text in texts)


def test_the_settings_that_the_heads_were_trained_with_are_those_of_their_records(content):
    assert f'weight_decay: 0.25, note: "{AND}"' in Page(content).texts


def test_all_shots_are_called_so(tmp_path):
    texts = Page(write(tmp_path, shots=ALL)).texts
    assert texts.count("all") == 1 + 2 + 2 + 1  # differences, metrics, costs; all datasets
    assert not [text for text in texts if str(ALL) in text]


@pytest.mark.parametrize("file", ["config.yaml", "accuracy.svg", "accuracy.png"])
def test_a_configuration_or_a_figure_that_was_changed_after_the_run_is_not_shown(tmp_path, file):
    with pytest.raises(DamagedError, match=rf"{file}: the file is damaged.*Delete it"):
        write(tmp_path, flipped=file)


def test_tables_can_be_sorted_and_whatever_belongs_to_one_dataset_can_be_hidden(content):
    tables = re.findall(r'<table class="sortable">.*?</thead>', content, re.DOTALL)
    assert len(tables) == 5
    assert all("<th" in head and "<button" in head for head in tables)
    assert 'data-value="66.66' in content
    assert content.count('data-dataset="pets &amp; &lt;b&gt;"') >= 5
    assert '<option value="pets &amp; &lt;b&gt;">' in content


def test_images_that_are_gone_are_named_and_the_page_is_written_all_the_same(tmp_path):
    content = write(tmp_path, wrong=6)
    assert "5.png" in Page(content).texts


def test_without_a_mistake_the_page_says_so(tmp_path):
    assert "every test image is classified correctly" in write(tmp_path, wrong=0)


def test_a_picture_becomes_smaller_until_it_has_as_few_bytes_as_it_may(tmp_path):
    draw_noise(tmp_path / "noise.png", 600, 400)
    for limit in (200_000, 20_000):
        assert len(embed_picture(tmp_path / "noise.png", limit=limit)) < 4 / 3 * limit + 100


@pytest.mark.slow
def test_eleven_datasets_of_large_photographs_stay_below_five_megabytes(tmp_path):
    content = write(tmp_path, wrong=6, datasets=[f"set {n}" for n in range(11)], side=600)
    assert len(content.encode()) < 5_000_000


def test_the_same_inputs_give_the_same_page_but_for_its_date(tmp_path):
    (first, second) = (re.sub(r"20\d\d-.*UTC", "", write(tmp_path)) for _ in range(2))
    assert first == second


def test_the_list_of_each_runs_images_is_named_with_its_checksum(content):
    expected = hashlib.sha256(format_picks(SAMPLE).encode()).hexdigest()
    assert f"<td>pets/4shot-seed1.jsonl</td><td>{expected}</td>" in content


def test_the_page_shows_the_versions_of_vtclip_that_wrote_it_and_the_heads(tmp_path):
    origin = dict(describe_provenance([record(tmp_path, "vt_clip"), record(tmp_path, "coop")]))
    assert origin["vtclip"] == __version__
    assert origin["vtclip of the heads"] == "0.0.9"


def save_calibrated(folder: Path) -> str:
    """A head whose centre is the first axis, with a calibration on 40 images near it."""
    generator = torch.Generator().manual_seed(0)
    near = torch.tensor([1.0, 0, 0]) + 0.01 * torch.randn(40, 3, generator=generator)
    distances = nearest(near, torch.eye(3))
    calibration = Calibration.fit(near, torch.arange(40) % 3, distances, torch.eye(3))
    write_tensors(folder / "head.safetensors", calibration.tensors())
    return str(folder / "head.safetensors")


def test_a_suspicious_label_is_shown_with_what_it_looks_like_and_its_nearest_images(content):
    texts = Page(content).texts
    start = texts.index("Labels to look at")
    said = "Of 20 images that were checked, the others contradict the label of 1"
    assert said in texts[start + 1]
    row = texts[texts.index("nearest images", start) + 1 :]
    assert row[:5] == ["4.png", "4.png", "4.png", AND, ALERT]


def test_sets_and_refusals_are_shown_as_they_were_on_test_images(tmp_path):
    write(tmp_path)
    others = tmp_path / "others" / "views" / "1shot-seed1.parquet"
    others.parent.mkdir(parents=True)
    rows = pl.DataFrame({"image": ["a", "b"], "label": [0, 1], "split": "train", "view": 0})
    with open_features_writer(others, {}) as writer:
        pooled = torch.tensor([[1.0, 0, 0], [-1, -1, -1]])  # as the classes' images, and not so
        writer.write(rows, pooled, torch.zeros(2, 1, 3))
    tests = [
        {"shots": 1, "seed": seed, "covered": covered, "set_size": 1.5, "refused": None}
        for seed, covered in ((1, 0.8), (2, 0.9))
    ]
    write_record(tmp_path / "vt_clip.json", {"calibration": tests})
    predicted = str(tmp_path / "vt_clip.parquet")
    run = make_run("pets", "vt_clip", predicted, backbone="RN50", shots=1, seed=1)
    run = run._replace(head=save_calibrated(tmp_path))
    example = Example("RN50", "pets", "", None, "", None, str(others))
    found = describe_calibration(example, [run])
    assert (found["covered"], found["set_size"]) == pytest.approx((0.85, 1.5))
    assert found["refused"] is None
    assert (found["others"], found["others_refused"]) == ("others", 0.5)


def test_without_calibrations_the_page_has_dashes(content):
    assert Page(content).texts.count("–") == 4


def test_test_images_that_are_near_duplicates_of_images_drawn_are_counted_with_pictures(content):
    assert "1 of 6 test images are near-duplicates of an image that was drawn" in content
    pair = content.split("Test image and image drawn:")[1].split("</p>")[0]
    assert re.findall(r'src="data:image/jpeg[^"]*" alt="(.*?)"', pair) == ["2.png", "4.png"]


BEST = {
    "method": "zero_shot", "shots": 1, "backbone": "RN50", "accuracy": 66.7, "low": 30.0,
    "high": 90.0, "trained": "1 shot per class", "seconds": 1.0, "bytes": 5, "folds": 0,
    "images": 6, "seeds": 2, "score": 75.0, "candidates": 2, "as_good": [["vt_clip", "1 shot"]],
    "nested": None, "curve": "", "classes": [],
}  # fmt: skip


def test_mistakes_are_those_of_the_head_to_take(tmp_path):
    texts = Page(write(tmp_path, best={DATASET: BEST})).texts
    assert f"{DATASET}, RN50, zero_shot, 1 shot" in texts
    said = "The accuracy on the validation images is 75.0 %, the highest of 2 candidates."
    assert any(said in t for t in texts)
    assert any("As good within the interval: VT-CLIP (1 shot)." in t for t in texts)


def test_a_head_without_another_candidate_is_not_the_best_of_any(tmp_path):
    for folds, said in (
        (0, "The accuracy on the validation images is 75.0 %."),
        (5, "It is the accuracy over 6 images in 5 folds."),
    ):
        best = BEST | {"folds": folds, "candidates": 1}
        assert any(said in text for text in Page(write(tmp_path, best={DATASET: best})).texts)


def test_where_the_head_to_take_has_another_backbone_the_reference_is_shown():
    runs = [
        make_run("pets", method, method, backbone=backbone, shots=shots, seed=1)
        for backbone in ("RN50", "ViT")
        for method in ("gda", "vt_clip")
        for shots in (1, 4)
    ]
    chosen = {"pets": {"backbone": "RN50", "method": "gda", "shots": 1}}
    shown = [
        find_shown(Example(backbone, "pets", "", None, "", None), runs, chosen, "vt_clip")
        for backbone in ("RN50", "ViT")
    ]
    assert shown == [[runs[0]], [runs[7]]]
