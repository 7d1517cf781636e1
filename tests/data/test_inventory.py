import os
from pathlib import Path

import pytest

from tests.data.conftest import mark_unavailable
from vtclip.config.dataset import Dataset
from vtclip.data.fetch import Expected, FetchError, fetch_archive
from vtclip.data.inventory import (
    archive_path,
    explain_missing,
    list_contents,
    mirror_addresses,
)

CLOSED = {"file": "train.tar"}
OPEN = {"file": "split.json", "urls": ["https://example.org/split.json"]}


@pytest.fixture(autouse=True)
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources/archives/big").mkdir(parents=True)
    (tmp_path / "resources/images").mkdir(parents=True)
    return tmp_path


def dataset(*archives):
    counts = {"train": 1, "val": 1, "test": 1, "classes": 2}
    return Dataset(title="Big", layout="fgvc", counts=counts, archives=archives, source="big.org")


@pytest.fixture
def mine(at):
    """A user's folder, with one class that is empty."""
    (at / "mine" / "cat").mkdir(parents=True)
    return Dataset(title="Mine", layout="folders", folder=str(at / "mine"))


def explain(*archives, mirror=None):
    return explain_missing("big", dataset(*archives), mirror, "config/config.yaml")


def test_an_archive_without_an_address_is_explained_in_three_lines():
    what, where, how = explain(CLOSED, OPEN).splitlines()
    assert "big is left out: train.tar requires an account" in what
    assert "get it from big.org and put it into resources/archives/big/" in where
    assert "take 'big' from `datasets:` in config/config.yaml" in how


def test_nothing_is_missing_where_every_archive_has_an_address():
    assert explain(OPEN) is None


@pytest.mark.parametrize(
    "place", ["archives/big/train.tar", "archives/big/train.tar.json", "images/big.json"]
)
def test_nothing_is_missing_once_archive_receipt_or_images_are_there(at, place):
    (at / "resources" / place).touch()
    assert explain(CLOSED) is None


def test_a_mirror_is_asked_for_what_has_no_address():
    assert explain(CLOSED, mirror="/data") is None


def test_an_archive_that_could_not_be_downloaded_is_explained_with_the_way_to_try_again():
    marker = mark_unavailable("big", dataset(OPEN))
    assert "split.json could not be downloaded on an earlier run" in explain(OPEN)
    assert "delete resources/archives/big/split.json.unavailable to try again" in explain(OPEN)
    marker.with_name("split.json").touch()
    assert explain(OPEN) is None


@pytest.mark.parametrize(
    ("changed", "mirror"),
    [
        ({"urls": ["https://example.org/moved.json"]}, None),
        ({"sha256": 64 * "0"}, None),
        ({"bytes": 5}, None),
        ({"git_blob": 40 * "0"}, None),
        ({}, "https://mirror.example.org"),
    ],
    ids=["address", "checksum", "length", "name in Git", "mirror"],
)
def test_an_archive_is_tried_again_once_what_is_searched_for_has_changed(changed, mirror):
    mark_unavailable("big", dataset(OPEN))
    assert explain(OPEN) is not None
    assert explain(OPEN | changed, mirror=mirror) is None


def test_any_checksum_of_an_archive_is_known_again_after_a_failed_download(at):
    given = {"urls": [str(at / "nowhere.json")], "git_blob": 40 * "0"}
    archive = dataset(OPEN | given).archives[0]
    place = archive_path("big", archive.file)
    with pytest.raises(FetchError):
        fetch_archive(archive.urls, place, f"{place}.json", Expected(**archive.expected))
    assert "could not be downloaded on an earlier run" in explain(OPEN | given)


def test_an_archive_is_tried_again_once_its_local_file_has_come(at):
    local = OPEN | {"urls": [str(at / "mounted/split.json")]}
    mark_unavailable("big", dataset(local))
    assert explain(local) is not None
    (at / "mounted").mkdir()
    (at / "mounted/split.json").touch()
    assert explain(local) is None


def test_a_marker_of_an_earlier_version_is_no_reason_to_leave_a_dataset_out(at):
    (at / "resources/archives/big/split.json.unavailable").write_text("could not be downloaded\n")
    assert explain(OPEN) is None


def test_a_folder_of_ones_own_is_never_missing_and_its_contents_are_hashed(at, mine):
    assert explain_missing("mine", mine, None, "c.yaml") is None
    before = list_contents(mine)
    (at / "mine" / "cat" / "1.png").touch()
    assert list_contents(mine) != before


def test_a_link_that_leads_nowhere_is_hashed_as_such_and_again_once_it_leads_somewhere(at, mine):
    hashes = [list_contents(mine)]
    (at / "mine" / "cat" / "1.png").symlink_to(at / "outside.png")
    (at / "mine" / "cat" / "2.png").symlink_to(at / "mine" / "cat" / "2.png")  # to itself
    hashes.append(list_contents(mine))
    (at / "outside.png").touch()
    hashes.append(list_contents(mine))
    assert len(set(hashes)) == 3
    assert list_contents(mine) == hashes[-1]


def test_a_change_behind_a_link_to_a_class_folder_is_seen(at, mine):
    (at / "outside").mkdir()
    (at / "mine" / "dog").symlink_to(at / "outside")
    before = list_contents(mine)
    (at / "outside" / "1.png").touch()
    assert list_contents(mine) != before


def test_hidden_files_and_files_with_odd_names_do_not_stop_the_plan_or_change_it(at, mine):
    Path(os.fsdecode(b"mine/cat/\xe9.png")).touch()
    before = list_contents(mine)
    (at / "mine" / "cat" / ".DS_Store").touch()
    assert list_contents(mine) == before


def test_a_mirror_replaces_all_addresses():
    urls = ["https://a", "https://b"]
    assert mirror_addresses(None, "dtd", "dtd.zip", urls) == urls
    assert mirror_addresses("/data/", "dtd", "dtd.zip", urls) == ["/data/dtd/dtd.zip"]


def test_a_table_that_changes_is_other_content(at):
    (at / "birds").mkdir()
    (at / "labels.csv").write_text("path,label\n")
    mine = Dataset(title="Mine", layout="table", table="labels.csv", folder="birds")
    before = list_contents(mine)
    (at / "labels.csv").write_text("path,label\nx.jpg,crane\n")
    assert list_contents(mine) != before
