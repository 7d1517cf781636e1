"""The paper's plan, Caltech101 from a web server, and a user's image folder, through Snakemake."""

import functools
import http.server
import json
import re
import subprocess
import threading

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from tests.data.conftest import mark_unavailable
from vtclip.config.dataset import read_dataset

pytestmark = pytest.mark.workflow

PAPER = ("config/config.yaml",)
CLIP = "glyph-clip-glyphs"


@pytest.fixture
def project(fresh, tmp_path):
    """A fresh project that a test may change."""
    return fresh.copy(tmp_path / "project")


def test_the_papers_plan_names_the_datasets_that_it_leaves_out_and_why(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    mark_unavailable("dtd", read_dataset("dtd"))
    said = project.run("--dry-run", config=PAPER)
    first = said[said.index("imagenet is left out") :].splitlines()[:3]
    assert "require an account" in first[0]
    assert "put it into resources/archives/imagenet/" in first[1]
    assert f"take 'imagenet' from `datasets:` in {PAPER[0]}" in first[2]
    assert "dtd is left out: dtd-r1.0.1.tar.gz could not be downloaded" in said
    rows = dict(re.findall(r"^sample_shots +(\S+) +(\d+) +new$", said, re.MULTILINE))
    assert list(rows.values()) == [str(5 * 3)] * 9
    assert len(said) < 20_000


def test_the_target_fetch_is_archives_and_weights_and_nothing_else(project):
    said = project.run("--dry-run", "fetch", config=PAPER)
    rows = re.findall(r"^(fetch_archive|unpack|fetch_backbone) .*?(\d+) +new$", said, re.MULTILINE)
    assert sum(int(number) for rule, number in rows) == 19 + 1
    assert "unpack_archives" not in said


@pytest.fixture
def caltech(published, tmp_path, project):
    """A web server with Caltech101's archives, and the dataset's file pointing to it."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "caltech-101.zip").symlink_to(published / "caltech-101.zip")
    split = "split_zhou_Caltech101.json"
    (served / split).symlink_to(published / "coop-splits" / split)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = project.folder / "config/datasets/caltech101.yaml"
        dataset = yaml.safe_load(path.read_text())
        for archive in dataset["archives"]:
            archive["urls"] = [f"http://127.0.0.1:{server.server_port}/{archive['file']}"]
        # The published archive, packed again: other bytes than the official file's.
        dataset["archives"][0] |= {
            "bytes": 131715621,
            "sha256": "00b62b7f2ca5556b2446cd480151d87695178d0f52c59a3d4481cd35afba218a",
        }
        path.write_text(yaml.safe_dump(dataset))
        yield project
        server.shutdown()


@pytest.mark.slow
def test_caltech101_is_fetched_unpacked_prepared_and_sampled_as_coop_does(caltech, published):
    targets = [
        f"results/shots/caltech101/{shots}shot-seed{seed}.parquet"
        for shots in (1, 2, 4, 8, 16)
        for seed in (1, 2, 3)
    ]
    caltech.run(*targets, config=PAPER)
    manifest = pl.read_parquet(caltech.folder / "results/manifests/caltech101.parquet")
    counts = dict(manifest.group_by("split").len().iter_rows())
    assert counts == {"train": 4128, "val": 1649, "test": 2465}
    split = json.loads((published / "coop-splits/split_zhou_Caltech101.json").read_text())
    expected = {
        (f"101_ObjectCategories/{image}", label, name, part)
        for part, rows in split.items()
        for image, label, name in rows
    }
    assert set(manifest.iter_rows()) == expected
    assert manifest["label"].n_unique() == 100
    images = caltech.folder / "resources/images/caltech101"
    assert sum(path.suffix == ".jpg" for path in images.rglob("*")) == 8242
    picks = json.loads((published / "coop-shots/caltech101.json").read_text())
    assert len(picks) == 15
    for name, parts in picks.items():
        sampled = pl.read_parquet(caltech.folder / f"results/shots/caltech101/{name}.parquet")
        for part in ("train", "val"):
            assert sampled.filter(split=part)["image"].to_list() == parts[part], name
    assert "Nothing to be done" in caltech.run("--dry-run", *targets, config=PAPER)


MINE = """\
title: My photographs
layout: folders
folder: {folder}
class_names: {{n1: stripes, n2: dots}}
templates: ["a drawing of {{}}."]
"""


def draw_photographs(folder):
    """Forty pictures of two classes, in every mode and format that cameras and webs make."""
    generator = np.random.default_rng(0)
    kinds = [("RGB", "jpg"), ("RGB", "png"), ("P", "gif"), ("CMYK", "jpg"), ("L", "png")]
    for name in ("n1", "n2"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 60, (48, 64, 3), dtype=np.uint8)
            if name == "n1":
                pixels[:, :: 2 + number % 3] += 180
            else:
                pixels[:: 3 + number % 3, :: 3 + number % 3] += 180
            mode, suffix = kinds[number % len(kinds)]
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.{suffix}")


@pytest.fixture
def photographs(finished, tmp_path):
    """The finished project with a user's image folder, and a configuration that uses it."""
    project = finished.copy(tmp_path / "project")
    draw_photographs(tmp_path / "photographs")
    text = MINE.format(folder=tmp_path / "photographs")
    (project.folder / "config/datasets/mine.yaml").write_text(text)
    config = yaml.safe_load((project.folder / "config/demo.yaml").read_text())
    config |= {"datasets": ["mine"], "shots": [2], "seeds": [1]}
    config["methods"] = {"zero_shot": None, "linear_probe": None}
    (project.folder / "config/mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return project


def test_a_folder_of_photographs_becomes_a_row_of_the_table(photographs):
    assert len(MINE.splitlines()) <= 8
    photographs.run(config=("config/mine.yaml",))
    results = pl.read_parquet(photographs.folder / "results/mine/tables/results.parquet")
    rows = results.filter(dataset="mine")
    assert rows["method"].to_list() == ["zero_shot", "linear_probe"]
    assert rows["mean"].is_between(0, 100).all()
    manifest = pl.read_parquet(photographs.folder / "results/manifests/mine.parquet")
    assert set(manifest["class_name"]) == {"stripes", "dots"}


@pytest.mark.slow
def test_photographs_in_folds_become_estimates_and_a_head_that_classifies(photographs, tmp_path):
    photographs.edit("config/datasets/mine.yaml", "layout: folders", "layout: folders\nfolds: 3")
    photographs.edit("config/mine.yaml", "shots:\n- 2", "shots:\n- 2\n- all")
    photographs.run(config=("config/mine.yaml",))
    tables = photographs.folder / "results/mine/tables"
    estimates = pl.read_parquet(tables / "estimates.parquet")
    assert estimates["images"].unique().to_list() == [40]
    assert estimates["method"].to_list() == ["zero_shot", "linear_probe", "linear_probe"]
    image = tmp_path / "photographs/n1/0.jpg"
    command = [photographs.python, "-m", "vtclip", "classify", "mine/best", str(image), "--json"]
    done = subprocess.run(
        command, cwd=photographs.folder, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)[0]["top"][0]["class"] == "stripes"


@pytest.mark.slow
def test_images_replaced_under_their_names_are_extracted_again_after_a_run_that_was_cut_off(
    photographs, tmp_path
):
    mine, shots = ("config/mine.yaml",), "results/shots/mine/2shot-seed1.parquet"
    features = f"results/features/{CLIP}/mine"
    run = f"{features}/4crops-0.8-1.0/2shot-seed1.parquet"
    photographs.run(f"{features}/test.parquet", run, config=mine)
    for path in (tmp_path / "photographs").rglob("*.png"):
        Image.new("RGB", (40, 40), "red").save(path)
    photographs.run(shots, config=mine)  # and no further
    planned = photographs.plan(*mine)
    assert f"Extracting the features of the test images of mine ({CLIP}, test)" in planned
    assert f"Extracting the features of mine: 2-shot, seed 1 ({CLIP})" in planned
