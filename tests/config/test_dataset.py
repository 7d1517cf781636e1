"""The files of config/datasets/ are checked, and each is found by its name."""

from pathlib import Path

import pytest
import yaml

from vtclip.config.dataset import Dataset, read_dataset
from vtclip.settings import ConfigError

DATASETS = Path(__file__).parents[2] / "config" / "datasets"


def test_every_dataset_file_is_accepted():
    for path in DATASETS.glob("*.yaml"):
        assert read_dataset(path.stem, path.parent).title


@pytest.mark.parametrize(
    "text", ["a photo", "a {} and a {}.", "a {} {x}.", "a {0}.", "a {", "a }} {}.", ""]
)
def test_a_template_without_exactly_one_place_for_the_class_name_is_refused(tmp_path, text):
    content = yaml.safe_load((DATASETS / "digits.yaml").read_text())
    content["templates"] = ["a photo of a {}.", text]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"(?s)mine\.yaml: templates: .*found: .*write:"):
        read_dataset("mine", tmp_path)


@pytest.mark.parametrize("text", ["", "- a list", "title: 3", "title: ["])
def test_a_dataset_file_with_other_content_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml: "):
        read_dataset("mine", tmp_path)


def test_a_dataset_file_of_the_working_directory_comes_before_the_projects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_dataset("digits").title == "Digits"
    folder = tmp_path / "config" / "datasets"
    folder.mkdir(parents=True)
    content = yaml.safe_load((DATASETS / "digits.yaml").read_text())
    (folder / "digits.yaml").write_text(yaml.safe_dump(content | {"title": "My digits"}))
    assert read_dataset("digits").title == "My digits"
    assert read_dataset("letters").title == "Letters (synthetic)"
    with pytest.raises(ConfigError, match="Unknown dataset 'digts'.*letters.*mean 'digits'"):
        read_dataset("digts")


@pytest.mark.parametrize(
    ("described", "exif"),
    [
        ({"layout": "folders", "folder": "x"}, "upright"),
        ({"layout": "folders", "folder": "x", "exif": "ignore"}, "ignore"),
        ({"layout": "coop", "split": "x.json"}, "ignore"),
        ({"layout": "imagenet_test"}, "ignore"),
    ],
)
def test_photographs_of_a_users_folder_are_turned_upright_and_published_ones_as_clip_reads_them(
    described, exif
):
    counts = {"train": 4, "val": 2, "test": 2, "classes": 2}
    found = Dataset.model_validate({"title": "T", "counts": counts} | described)
    assert found.exif == exif


@pytest.mark.parametrize(
    "keys",
    [
        {"levels": 2},
        {"split_folders": {"trn": "train"}},
        {"class_names": {"a": "b"}},
        {"fractions": {"train": 0.6}},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_key_that_the_layout_does_not_use_is_refused(keys):
    counts = {"train": 4, "val": 2, "test": 2, "classes": 2}
    described = {"title": "T", "split": "x.json", "counts": counts, "folder": "x"}
    assert Dataset.model_validate(described | {"layout": "folders"} | keys)
    with pytest.raises(ValueError, match=f"layout coop does not use '{next(iter(keys))}'"):
        Dataset.model_validate(described | keys)


def test_keys_of_tables_are_refused_for_folders_and_those_of_folders_for_tables():
    folders = {"title": "T", "folder": "x", "layout": "folders"}
    table = folders | {"layout": "table", "table": "x.csv"}
    assert Dataset.model_validate(table | {"fractions": {"train": 0.6}}).exif == "upright"
    for described in (folders | {"columns": {"label": "a"}}, table | {"levels": 2}):
        with pytest.raises(ValueError, match="does not use"):
            Dataset.model_validate(described)
    with pytest.raises(ValueError, match="layout table needs the key 'table'"):
        Dataset.model_validate(folders | {"layout": "table"})
