"""Tables say what was used where that is not what was requested."""

import polars as pl
import pytest

from tests.results.conftest import make_run, write_predictions
from vtclip.files import write_json
from vtclip.methods import METHODS
from vtclip.parquet import write_parquet
from vtclip.paths import ALL, Sample, history_of, record_of
from vtclip.results.few_shot import aggregate_results
from vtclip.results.figures import plot_accuracy
from vtclip.results.footnotes import describe_ties, describe_used, find_inconsistencies
from vtclip.results.tables import read_notes


@pytest.fixture
def sample(tmp_path):
    """Saves a sample with numbers of training and of validation images by label."""

    def save(shots, train, val, dataset="pets"):
        rows = [
            (label, split)
            for split, numbers in (("train", train), ("val", val))
            for label, number in enumerate(numbers)
            for _ in range(number)
        ]
        path = tmp_path / f"{dataset}-{shots}-{len(list(tmp_path.iterdir()))}"
        write_parquet(path, pl.DataFrame(rows, schema=["label", "split"], orient="row"))
        return Sample(dataset, shots, str(path))

    return save


@pytest.fixture
def trained(tmp_path):
    """Saves a head's record, and a history of so many epochs."""

    def save(seed, done, **settings):
        head = tmp_path / f"{seed}" / "head.safetensors"
        head.parent.mkdir()
        chosen = METHODS["vt_clip"].settings_type(**settings).model_dump(mode="json")
        write_json(record_of(head), {"method": "vt_clip", "settings": chosen})
        write_parquet(history_of(str(head)), pl.DataFrame({"epoch": range(done)}))
        return make_run(
            "pets", "vt_clip", "", head=str(head), record=record_of(head), shots=2, seed=seed
        )

    return save


def test_classes_with_equal_text_features_are_named_once_for_each_backbone(tmp_path):
    names = ["Cat", "dog", "cat", "owl"]
    texts = {"same": [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]}
    texts["other"] = [[0.0, 1.0], [1.0, 0.0], [0.0, 0.9], [0.5, 0.5]]
    runs = []
    for backbone, vectors in texts.items():
        table = pl.DataFrame({"class_name": names, "text": vectors})
        write_parquet(tmp_path / backbone, table)
        texts_file = str(tmp_path / backbone)
        runs += [make_run("pets", "zero_shot", "", backbone=backbone, texts=texts_file)] * 2
    assert list(describe_ties(runs, {"pets": "Pets"})) == [
        "Pets: these classes have the same text for same, so zero-shot gives them equal scores: "
        "'Cat' and 'cat'."
    ]


def test_classes_with_as_many_images_as_requested_need_no_word(sample):
    assert describe_used([], [sample(2, [2, 2], [2, 2]), sample(8, [8, 8], [4, 4])], {}) == []


def test_smallest_and_largest_number_of_images_per_class_are_named(sample):
    samples = [sample(2, [2, 2], [2, 1]), sample(16, [4, 12], [4, 4]), sample(ALL, [4, 30], [4, 4])]
    assert describe_used([], samples, {"pets": "Pets"}) == [
        "Images per class used for training: Pets 4 to 12 at 16 shots, 4 to 30 at all shots.",
        "Validation shots per class: Pets 1 to 2 at 2 shots.",
    ]


def test_of_a_dataset_in_folds_the_images_of_all_folds_heads_count(sample):
    samples = [sample(ALL, [7, 7], [2, 2]), sample(ALL, [8, 8], [2, 2])]
    assert describe_used([], samples, {}) == [
        "Images per class used for training: pets 9 to 10 at all shots.",
        "Validation shots per class: pets 2 at all shots.",
    ]


def test_of_a_half_its_own_classes_count(sample):
    samples = [sample(4, [4, 4, 4, 1], [4, 4, 4, 4], "pets@base")]
    assert describe_used([], samples, {}) == []


def test_trainings_that_ended_early_are_named_with_their_epochs(sample, trained):
    runs = [trained(seed, epochs, epochs=50) for seed, epochs in ((1, 31), (2, 44), (3, 50))]
    runs += [trained(4, 3, epochs=60, stop_at_loss=None)]
    assert describe_used(runs, [sample(2, [2, 2], [2, 2])], {"vt_clip": "VT-CLIP"}) == [
        "Ended early, at `stop_at_loss`: VT-CLIP 31 to 44 of 50 epochs in 2 runs."
    ]


def test_epochs_are_those_of_the_images_that_were_used(sample, trained):
    runs = [trained(1, 50, epochs={1: 50, 2: 100})]
    assert describe_used(runs, [sample(2, [1, 1], [1, 1])], {})[-1].startswith(
        "Validation shots per class"
    )


def test_every_form_of_the_table_and_its_figure_say_what_was_used(tmp_path, sample):
    runs = [make_run("pets", "vt_clip", write_predictions(tmp_path / "runs", {(16, 1): 0.5}))]
    table = tmp_path / "results"
    aggregate_results(runs, table, samples=[sample(16, [4, 12], [4, 4])], unmet=["Too large."])
    for suffix in (".md", ".tex", ".txt"):
        text = " ".join(table.with_suffix(suffix).read_text().replace("%", "").split())
        assert "training: pets 4 to 12 at 16 shots." in text
        assert "Too large." in text
    notes = ["Images per class used for training: pets 4 to 12 at 16 shots.", "Too large."]
    assert read_notes(f"{table}.parquet") == notes
    plot_accuracy(f"{table}.parquet", tmp_path / "figure", {})
    assert "Images per class used" in (tmp_path / "figure.svg").read_text()


def test_a_footnote_says_where_runs_differ_in_device_precision_or_version(tmp_path):
    same = {"device_kind": "cpu", "precision": "float32", "versions": {"torch": "2.9.0"}}
    versions = [{"versions": {"torch": version}} for version in ("2.9.1", "2.10.1")]
    records = []
    for number, change in enumerate([{}, {"device_kind": "cuda"}, *versions]):
        write_json(tmp_path / f"{number}.json", same | change)
        records.append(tmp_path / f"{number}.json")
    assert find_inconsistencies(records[:1]) == []
    assert find_inconsistencies([records[0], records[2]]) == []  # only the last number differs
    assert find_inconsistencies(records[:2]) == [
        "Not all runs have the same device: cpu (1 run), cuda (1 run)."
    ]
    (sentence,) = find_inconsistencies([records[0], records[3]])
    assert sentence == "Not all runs have the same version of torch: 2.9 (1 run), 2.10 (1 run)."
