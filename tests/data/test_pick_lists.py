"""Lists of picks: read without running code, and matched to the manifest by path."""

import json
import os
import pickle  # noqa: TID251

import polars as pl
import pytest

from vtclip.data.manifest import read_coop_split
from vtclip.data.pick_lists import PicksError, find_list, read_picks
from vtclip.data.shots import format_picks, match_picks, sample_shots
from vtclip.parquet import read_parquet, write_parquet


class Datum:
    """A record as Dassl has it."""

    def __init__(self, image: str, label: int, name: str) -> None:
        self._impath, self._label, self._domain, self._classname = image, label, 0, name


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def records(sample: pl.DataFrame, split: str) -> list[dict]:
    return [
        {"impath": f"./data/set/{row['image']}", "label": row["label"],
         "classname": row["class_name"]}
        for row in sample.filter(split=split).to_dicts()
    ]  # fmt: skip


@pytest.fixture
def matched(manifest, tmp_path):
    """Matches a list to the manifest, and returns the rows that are written."""
    write_parquet(tmp_path / "manifest.parquet", manifest)

    def match(picks, shots=2) -> pl.DataFrame:
        match_picks(tmp_path / "manifest.parquet", picks, tmp_path / "out.parquet", shots=shots)
        return read_parquet(tmp_path / "out.parquet")

    return match


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_the_published_indices_of_caltech101_give_the_rows_of_our_own_draw(
    published, tmp_path, shots, seed
):
    name = f"{shots}shot-seed{seed}"
    lists = json.loads((published / "coop-shots/caltech101.json").read_text())[name]
    published_form = {
        split: {"data": [{"impath": f"./data/caltech-101/{image}"} for image in images]}
        for split, images in lists.items()
    }
    picks = write(tmp_path / f"shot_{shots}-seed_{seed}.json", published_form)
    manifest = read_coop_split(published / "coop-splits/split_zhou_Caltech101.json")
    write_parquet(tmp_path / "manifest.parquet", manifest)
    found = match_picks(tmp_path / "manifest.parquet", picks, tmp_path / "out.parquet", shots=shots)
    assert found.equals(sample_shots(manifest, shots=shots, seed=seed))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_cache_of_coop_is_read_in_every_protocol(manifest, matched, tmp_path, protocol):
    sample = sample_shots(manifest, shots=2, seed=1)
    cache = {
        split: [Datum(*record.values()) for record in records(sample, split)]
        for split in ("train", "val")
    }
    file = tmp_path / "shot_2-seed_1.pkl"
    file.write_bytes(pickle.dumps(cache, protocol=protocol))
    assert matched(file).equals(sample)


class Harmful:
    def __init__(self, call, *arguments) -> None:
        self.calls = call, arguments

    def __reduce__(self):
        return self.calls


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.system, eval, getattr, __import__, Datum.__init__])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, call, protocol):
    if call is Datum.__init__ and protocol < 4:
        pytest.skip("such a pickle cannot be written")
    ran = tmp_path / "ran"
    harmful = Harmful(call, f"touch {ran}" if call is os.system else f"open({str(ran)!r}, 'w')")
    file = tmp_path / "shot_1-seed_1.pkl"
    file.write_bytes(pickle.dumps({"train": [harmful]}, protocol=protocol))
    with pytest.raises(PicksError, match=r"shot_1-seed_1.pkl: expected a pickle of plain data"):
        read_picks(file)
    assert not ran.exists()


def test_a_pickle_cannot_make_old_objects_of_another_class(tmp_path):
    file = tmp_path / "a.pkl"
    file.write_bytes(
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR."
    )
    with pytest.raises(PicksError, match="Datum"):
        read_picks(file)


def test_json_lines_and_csv_give_the_same_rows(manifest, matched, tmp_path):
    sample = sample_shots(manifest, shots=2, seed=1)
    lines = tmp_path / "a.jsonl"
    lines.write_text(format_picks(sample))
    assert matched(lines).equals(sample)
    table = sample.select(pl.col("image").alias("path"), "label", "split")
    assert matched(write(tmp_path / "a.csv", table.write_csv())).equals(sample)
    semicolons = "\ufeff" + table.write_csv(separator=";").replace(";val", ";Validation")
    assert matched(write(tmp_path / "b.csv", semicolons)).equals(sample)
    table = sample.select("image", pl.col("class_name").alias("label"), "split")
    for separator in "\t|":
        lists = write(tmp_path / "c.tsv", table.write_csv(separator=separator))
        assert matched(lists).equals(sample)


def test_json_of_paths_or_of_rows_gives_the_same_rows(manifest, matched, tmp_path):
    sample = sample_shots(manifest, shots=2, seed=1)
    for columns in ("image", ["image", "label", "class_name"]):
        picks = {
            split: [row if len(row) > 1 else row[0] for row in found.select(columns).rows()]
            for (split,), found in sample.group_by("split", maintain_order=True)
        }
        assert matched(write(tmp_path / "a.json", picks)).equals(sample)


def test_a_list_of_another_form_or_with_test_images_is_refused(tmp_path):
    with pytest.raises(PicksError, match=r"a\.txt: expected a file that ends in \.jsonl"):
        read_picks(tmp_path / "a.txt")
    table = write(tmp_path / "a.csv", "path,split\n0-0.png,test\n")
    with pytest.raises(PicksError, match=r"0-0.png: expected the split train or val, found test"):
        read_picks(table)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"impath": "test/0-1.png", "label": 1}, "of the dataset's test split: test/0-1.png"),
        ({"impath": "train/0-1.png", "label": 2}, "another label than the dataset's: train/0-1"),
        ({"impath": "train/0-1.png", "classname": "class 2"}, "with another class name"),
        ({"impath": "train/0-0.png"}, "listed twice: train/0-0.png"),
        ({"impath": "./a/x.png"}, "1 image not in the dataset's split: ./a/x.png"),
    ],
)
def test_what_does_not_match_is_named(matched, tmp_path, record, problem):
    picks = write(tmp_path / "a.json", {"train": [{"impath": "train/0-0.png"}, record]})
    with pytest.raises(PicksError, match=problem):
        matched(picks)


def test_more_images_of_a_class_than_shots_are_refused(manifest, matched, tmp_path):
    picks = tmp_path / "a.jsonl"
    picks.write_text(format_picks(sample_shots(manifest, shots=2, seed=1)))
    with pytest.raises(PicksError, match="expected 1 training image of a class at most, found 2"):
        matched(picks, shots=1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"train": 3}', '{"train": [3]}', '{"train": [{"x": 1}]}']
)
def test_what_is_no_list_is_refused_by_the_files_name(matched, tmp_path, content):
    with pytest.raises(PicksError, match=r"a\.json"):
        matched(write(tmp_path / "a.json", content))


@pytest.mark.parametrize("label", ["1.7", "true", '"1"', "1.0"])
def test_a_label_is_the_number_of_a_class(tmp_path, label):
    lines = write(tmp_path / "a.jsonl", f'{{"image": "a.png", "label": {label}}}')
    if label in ("1.7", "true"):
        with pytest.raises(PicksError, match=r"a\.png: expected the number of a class, found"):
            read_picks(lines)
    else:
        assert [pick.label for pick in read_picks(lines)] == [1]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "image\n" + 200_000 * "a"), ("a.jsonl", '{"image": "a", "label": Infinity}')],
)
def test_values_that_no_list_has_are_refused_by_the_files_name(tmp_path, name, content):
    with pytest.raises(PicksError, match=rf"{name}: no list of picks can be read from it"):
        read_picks(write(tmp_path / name, content))


def test_a_line_ends_where_its_form_says(tmp_path):
    (tmp_path / "old.csv").write_bytes(b"image,split\ra.png,train\rb.png,val\r")
    assert [pick.image for pick in read_picks(tmp_path / "old.csv")] == ["a.png", "b.png"]
    (tmp_path / "a.jsonl").write_text('{"image": "a\u2028b.png"}\r\n', encoding="utf-8")
    assert [pick.image for pick in read_picks(tmp_path / "a.jsonl")] == ["a\u2028b.png"]


def test_a_run_finds_its_list_by_the_names_of_other_projects_and_by_ours(tmp_path):
    (tmp_path / "pets").mkdir()
    names = ("pets/shot_4-seed_1.pkl", "pets/4shot-seed2.jsonl", "shot_4-seed_3.json")
    for seed, name in enumerate(names, start=1):
        (tmp_path / name).touch()
        assert find_list(str(tmp_path), dataset="pets", shots=4, seed=seed) == tmp_path / name
    named = f"{tmp_path}/{{dataset}}/shot_{{shots}}-seed_{{seed}}.pkl"
    assert find_list(named, dataset="pets", shots=4, seed=1) == tmp_path / "pets/shot_4-seed_1.pkl"
    assert find_list(named, dataset="pets", shots=8, seed=1) is None
