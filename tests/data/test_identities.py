"""ImageNet and four test sets of its classes, from archives to a planted classifier."""

import functools
import http.server
import io
import json
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from vtclip.config.dataset import read_dataset
from vtclip.data.fetch import Expected, fetch_archive
from vtclip.data.layouts import list_class_folders, list_synsets, read_identities, read_wanted
from vtclip.data.manifest import prepare_manifest
from vtclip.data.unpack import Archive, unpack_archives
from vtclip.data.walk import ManifestError
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.files import sha256_of
from vtclip.parquet import read_parquet
from vtclip.training.predict import Trained, TrainedHead, predict_test

read_synsets = functools.cache(list_synsets)  # imports timm
SETS = ("imagenet", "imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r")
SOME = {"imagenet_a": range(6, 1000, 5), "imagenet_r": range(1, 1000, 5)}  # 200 classes or fewer
CODES = torch.nn.functional.normalize(
    torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)), dim=-1
)


def picture(label):
    """A tiny image that shows ImageNet's label in its colour."""
    buffer = io.BytesIO()
    colour = (label // 100, label // 10 % 10, label % 10)
    Image.new("RGB", (2, 2), colour).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(label) for label in range(1000)]


def shown(path):
    with Image.open(path) as image:
        hundreds, tens, ones = image.getpixel((0, 0))
    return 100 * hundreds + 10 * tens + ones


def pack(members):
    """A tar of (name, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pack_imagenet():
    """One training image per class, and a validation image, in the order of the devkit."""
    order = np.random.default_rng(0).permutation(1000)  # the devkit's numbers of the leaves
    synsets = [(number + 1, read_synsets()[label]) for number, label in enumerate(order)]
    kinds = [("ILSVRC2012_ID", int), ("WNID", object)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array([*synsets, (1001, "n99999999")], dtype=kinds)})
    truth = np.random.default_rng(1).permutation(1000)
    lines = "".join(f"{number + 1}\n" for number in truth)
    devkit = "ILSVRC2012_devkit_t12/data"
    return {
        "ILSVRC2012_img_train.tar": pack(
            (f"{synset}.tar", pack([(f"{synset}_1.JPEG", PICTURES[label])]))
            for label, synset in enumerate(read_synsets())
        ),
        "ILSVRC2012_img_val.tar": pack(
            (f"ILSVRC2012_val_{place:08d}.JPEG", PICTURES[order[number]])
            for place, number in enumerate(truth, start=1)
        ),
        "ILSVRC2012_devkit_t12.tar.gz": pack(
            [
                (f"{devkit}/meta.mat", meta.getvalue()),
                (f"{devkit}/ILSVRC2012_validation_ground_truth.txt", lines.encode()),
            ]
        ),
    }


def pack_sketch():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for label, synset in enumerate(read_synsets()):
            archive.writestr(f"sketch/{synset}/sketch_1.JPEG", PICTURES[label])
    return {"ImageNet-Sketch.zip": buffer.getvalue()}


def pack_some(name, folder):
    members = [(f"{folder}/README.txt", b"Images of some classes.")]
    members += [
        (f"{folder}/{read_synsets()[k]}/art_1.jpg", PICTURES[k]) for k in reversed(SOME[name])
    ]
    return {f"{folder}.tar": pack(members)}


def pack_all():
    """Archives in the official form; ImageNetV2's is a plain tar, whatever its name says."""
    top = "imagenetv2-matched-frequency-format-val"
    v2 = pack((f"{top}/{label}/a.jpeg", PICTURES[label]) for label in range(1000))
    return {
        "imagenet": pack_imagenet(),
        "imagenet_v2": {"imagenetv2-matched-frequency.tar.gz": v2},
        "imagenet_sketch": pack_sketch(),
        "imagenet_a": pack_some("imagenet_a", "imagenet-a"),
        "imagenet_r": pack_some("imagenet_r", "imagenet-r"),
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Fetched from a local server, unpacked and prepared: name -> images and manifest."""
    folder = tmp_path_factory.mktemp("imagenet")
    for name, files in pack_all().items():
        (folder / "served" / name).mkdir(parents=True)
        for file, content in files.items():
            (folder / "served" / name / file).write_bytes(content)
    handler = functools.partial(Quiet, directory=folder / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        found = {name: prepare(folder, address, name) for name in SETS}
        server.shutdown()
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def prepare(folder, address, name):
    """The jobs of a dataset, one after another, as its own file describes it but for the sizes."""
    classes = len(SOME.get(name, range(1000)))
    train = 1000 if name == "imagenet" else 0
    dataset = read_dataset(name).model_dump(mode="json")
    dataset["counts"] = {"train": train, "val": 0, "test": classes, "classes": classes}
    archives = folder / "archives" / name
    for archive in dataset["archives"]:
        served = folder / "served" / name / archive["file"]
        expected = Expected(bytes=served.stat().st_size, sha256=sha256_of(served))
        path = archives / archive["file"]
        fetch_archive([f"{address}/{name}/{path.name}"], path, f"{path}.json", expected)
    images, manifest = folder / "images" / name, folder / f"{name}.parquet"
    receipt = folder / "images" / f"{name}.json"
    unpack_archives(
        [Archive(archives / a["file"], a["into"], a["nested"]) for a in dataset["archives"]],
        images, receipt, wanted=read_wanted(dataset, archives),
    )  # fmt: skip
    prepare_manifest(dataset, images, manifest, receipt=receipt)
    return SimpleNamespace(images=images, manifest=manifest)


def extract(prepared, name, folder):
    """Features that show each image's class as its code, and texts that say nothing."""
    found = prepared[name]
    rows = read_parquet(found.manifest).filter(split="test").with_columns(view=pl.lit(0))
    codes = CODES[[shown(found.images / image) for image in rows["image"]]]
    with open_features_writer(folder / f"{name}.parquet", {}) as writer:
        writer.write(rows, codes, torch.zeros(len(codes), 1, 1))
    classes = read_parquet(found.manifest, "label", "class_name").unique().sort("label")
    texts = torch.nn.functional.normalize(torch.ones(classes.height, 64), dim=-1)
    write_texts(folder / f"{name}-texts.parquet", classes["class_name"].to_list(), texts,
                {"logit_scale": 1.0})  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_a_planted_classifier_of_imagenet_is_always_right(prepared, name, tmp_path):
    for needed in {name, "imagenet"}:
        extract(prepared, needed, tmp_path)
    save_file({"weight": CODES, "bias": torch.zeros(1000)}, tmp_path / "head.safetensors")
    trained = Trained(
        "imagenet", tmp_path / "imagenet-texts.parquet", prepared["imagenet"].manifest
    )
    predict_test(
        "linear_probe", {}, tmp_path / f"{name}-texts.parquet",
        [TrainedHead(16, 1, tmp_path / "head.safetensors")], [tmp_path / f"{name}.parquet"],
        tmp_path / "predictions.parquet", device=torch.device("cpu"),
        manifest=prepared[name].manifest, tested=name,
        trained=None if name == "imagenet" else trained,
    )  # fmt: skip
    predictions = read_parquet(tmp_path / "predictions.parquet")
    assert predictions.height == len(SOME.get(name, read_synsets()))
    assert (predictions["prediction"] == predictions["label"]).all()


@pytest.mark.parametrize("name", SETS)
def test_every_image_has_the_label_and_the_synset_of_what_it_shows(prepared, name):
    found = prepared[name]
    identities = read_identities(found.manifest)
    for image, label in read_parquet(found.manifest, "image", "label").iter_rows():
        assert identities[label] == read_synsets()[shown(found.images / image)]


def test_the_folders_of_imagenet_v2_are_numbers_and_no_texts(prepared):
    """Sorted as texts, "10" comes before "2": nearly every label would be another one."""
    rows = read_parquet(prepared["imagenet_v2"].manifest).sort("label")
    folders = [image.split("/")[1] for image in rows["image"]]
    assert folders == [str(label) for label in range(1000)]


def test_imagenet_is_labelled_by_sorted_synsets_and_named_by_label(prepared):
    rows = read_parquet(prepared["imagenet"].manifest)
    train = rows.filter(split="train")
    assert train["image"].is_sorted()
    assert train["class_name"].to_list() == list(IMAGENET_CLASSNAMES)
    first = rows.filter(split="test").row(0, named=True)
    assert first["image"] == "val/ILSVRC2012_val_00000001.JPEG"
    assert first["class_name"] == IMAGENET_CLASSNAMES[first["label"]]


def test_two_classes_of_one_name_stay_apart(prepared):
    names = read_parquet(prepared["imagenet_sketch"].manifest, "label", "class_name")
    twice = names.filter(pl.col("class_name").is_duplicated())
    assert twice.height >= 4
    assert twice["label"].n_unique() == twice.height


def test_folders_that_are_no_class_of_imagenet_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="found none"):
        list_class_folders(tmp_path)
    (tmp_path / "1000").mkdir()
    (tmp_path / "7").mkdir()
    with pytest.raises(ManifestError, match="labels .0 to 999., found 1000"):
        list_class_folders(tmp_path)
    (tmp_path / "1000").rmdir()
    (tmp_path / read_synsets()[7]).mkdir()
    with pytest.raises(ManifestError, match=f"two folders of one class, {read_synsets()[7]}"):
        list_class_folders(tmp_path)


def test_a_class_folder_is_what_a_class_of_ones_own_folder_is(tmp_path):
    for split in ("train", "test"):
        for name in ("n2", "n1"):
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            (tmp_path / "mine" / split / name / f"{split}.png").write_bytes(split.encode())
    dataset = {"layout": "folders", "class_names": {"n1": "a", "n2": "a"}, "counts": None}
    prepare_manifest(dataset, tmp_path / "mine", tmp_path / "mine.parquet")
    assert read_identities(tmp_path / "mine.parquet") == ["n1", "n2"]
    manifest = json.loads((tmp_path / "mine.json").read_text())
    assert "sha256" in manifest
