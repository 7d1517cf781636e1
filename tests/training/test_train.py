import subprocess
import sys
from dataclasses import replace
from typing import ClassVar

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import vtclip
from tests.feature_files import read_features
from tests.methods.short import OF_FEATURES, short_settings
from tests.training.conftest import CPU, train
from vtclip.features.store import open_features_writer
from vtclip.methods import METHODS
from vtclip.methods.base import Method, Recipe
from vtclip.parquet import write_parquet
from vtclip.task import Choices
from vtclip.tensors import read_calibration
from vtclip.training.optimise import TrainingError
from vtclip.training.tasks import Sources, read_task
from vtclip.training.train import fit


def test_a_run_leaves_head_history_exact_settings_and_what_made_it(on_disk):
    run = train(on_disk, settings={"epochs": 2})
    assert run["settings"]["epochs"] == 2
    assert run["settings"]["heads"] == 8
    assert run["versions"]["vtclip"] == vtclip.__version__
    assert run["versions"]["torch"] == torch.__version__.split("+")[0]
    assert run["seconds"] > 0
    assert pl.read_parquet(on_disk / "run" / "history.parquet").height == 2
    head = load_file(on_disk / "run" / "head.safetensors")
    assert "guide.blocks.0.to_image.part.query.weight" in head
    assert (run["device_kind"], run["precision"]) == ("cpu", "float32")
    assert run["features"]["backbone"] == "small"


def test_a_choice_at_the_edge_of_its_values_is_in_the_record(on_disk):
    grid = {"alpha": [1.0, 1.001, 1.002], "beta": [3.0, 3.001]}  # two values have no inside
    chosen = train(on_disk, "tip_adapter", grid)["choices_at_edge"]
    head = load_file(on_disk / "run" / "head.safetensors")
    assert bool(chosen) == (abs(head["alpha"].item() - 1.001) > 1e-4)
    assert "beta" not in chosen
    wide = {"inverse_regularisation": [1e-9, 1.0, 1e9]}
    edges = train(on_disk, "linear_probe", wide)["choices_at_edge"]
    head = load_file(on_disk / "run" / "head.safetensors")
    assert bool(edges) == (head["inverse_regularisation"].item() != 1.0)


def test_each_image_is_learned_with_its_own_label(on_disk, task):
    train(on_disk, "linear_probe", {"inverse_regularisation": [1e6]})
    head = load_file(on_disk / "run" / "head.safetensors")
    pooled = torch.nn.functional.normalize(task.train.pooled[:, 0].half().float(), dim=-1)
    hits = (pooled @ head["weight"].T + head["bias"]).argmax(1) == task.train.labels
    assert hits[[9, 0, 6, 3]].all()
    assert not hits.all()


def test_zero_shot_needs_no_image_and_has_an_empty_history(on_disk):
    train(on_disk, "zero_shot", few_shot=False)
    assert pl.read_parquet(on_disk / "run" / "history.parquet").is_empty()


@pytest.fixture
def curious(monkeypatch):
    """A method that keeps the tasks which it is given, in place of any other."""

    class Curious(Method):
        seen: ClassVar = []

        def initial_head(self, task):
            self.seen.append(task)
            return {"nothing": torch.zeros(1)}

        def classifier(self, head, texts):
            return lambda images: torch.zeros(len(images.pooled), 4)

    monkeypatch.setattr(type(METHODS), "__getitem__", lambda _, name: Curious)
    return Curious


@pytest.mark.parametrize("trained", [(), ("nothing",)])
def test_a_classifier_without_a_logit_for_each_class_is_refused(on_disk, curious, trained):
    curious.trained, curious.settings_type = trained, Recipe
    curious.classifier = lambda *_: lambda images: torch.zeros(len(images.pooled), 3)
    with pytest.raises(TrainingError, match=r"gives \(4, 3\): expected logits \(images, 4\)"):
        train(on_disk, "curious", {"epochs": 1})


@pytest.mark.parametrize("tunes", [False, True])
def test_where_nothing_may_be_chosen_no_method_is_given_validation_shots(on_disk, curious, tunes):
    curious.tunes = tunes
    run = train(on_disk, "curious", validation=False)
    assert [task.val for task in curious.seen] == [None]
    assert run["val_accuracy"] is None


def test_a_training_without_validation_shots_ends_at_the_same_head_and_measures_nothing(on_disk):
    heads = []
    for validation in (True, False):
        run = train(on_disk, "clap", {"epochs": 2}, validation=validation)
        heads.append(load_file(on_disk / "run" / "head.safetensors")["vectors"])
    assert torch.equal(*heads)
    assert run["val_accuracy"] is None
    assert pl.read_parquet(on_disk / "run" / "history.parquet")["val_accuracy"].is_nan().all()


@pytest.mark.parametrize(
    ("needs", "views", "tokens"),
    [({}, 1, None), ({"reads_views": True}, 2, None), ({"reads_spatial": True}, 1, 5)],
)
def test_a_method_is_given_what_it_declares_and_no_more(on_disk, curious, needs, views, tokens):
    for name, value in needs.items():
        setattr(curious, name, value)
    train(on_disk, "curious")
    (task,) = curious.seen
    assert task.train.pooled.shape == (4, views, 16)
    assert task.val.pooled.shape == (4, 1, 16)
    assert task.prompts is None
    assert (None if task.train.spatial is None else task.train.spatial.shape[2]) == tokens


@pytest.mark.parametrize(
    ("method", "needed"),
    [("vt_clip", set()), ("tip_adapter_f", set()), ("linear_probe", {"sklearn"})],
)
def test_a_training_job_imports_no_library_that_its_method_does_not_need(on_disk, method, needed):
    code = (
        "import sys, torch; from vtclip.training.train import Sources, train_head; "
        f"train_head({method!r}, {{}}, Sources('texts.parquet', ['features.parquet']), "
        "'run', shots=1, seed=1, device=torch.device('cpu')); "
        "heavy = {'open_clip', 'torchvision', 'sklearn', 'snakemake', 'matplotlib', "
        "'pandas', 'torch._dynamo'}; "
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=on_disk, text=True, stdout=subprocess.PIPE, check=True
    )
    found = set(done.stdout.splitlines()[-1].split())
    brought_along = {"pandas"} if "sklearn" in needed else set()  # where it is installed
    assert found - brought_along == needed


def leave_training_images_alone(folder):
    """Take the validation images out of the features."""
    features = read_features(folder / "features.parquet")
    rows = features.rows["split"] == "train"
    with open_features_writer(folder / "features.parquet", {}) as writer:
        kept = rows.to_torch()
        writer.write(features.rows.filter(rows), features.pooled[kept], features.spatial[kept])


@pytest.mark.parametrize(
    ("method", "settings"),
    [("linear_probe", {}), ("tip_adapter", {}), ("vt_clip", {"select": "val"})],
)
def test_without_validation_images_a_method_that_chooses_on_them_says_so(on_disk, method, settings):
    leave_training_images_alone(on_disk)
    with pytest.raises(TrainingError, match=r"there are none.*Give the dataset a validation split"):
        train(on_disk, method, settings)


def test_without_validation_images_a_method_that_chooses_nothing_trains_all_the_same(on_disk):
    leave_training_images_alone(on_disk)
    assert train(on_disk, settings={"epochs": 1})["val_accuracy"] is None


@pytest.mark.parametrize("method", ["gda", "proker"])
def test_double_precision_is_computed_on_the_cpu_where_the_gpu_is_apples(on_disk, method):
    assert METHODS[method].fits_in_double
    settings = short_settings(method).model_dump()
    assert train(on_disk, method, settings, device=torch.device("mps"))["device"] == "cpu"


def test_a_head_with_nan_is_refused(on_disk, monkeypatch):
    from vtclip.methods.linear_probe import LinearProbe

    start = LinearProbe.initial_head

    def spoil(self, task):
        head = start(self, task)
        head["bias"][1] = float("nan")
        return head

    monkeypatch.setattr(LinearProbe, "initial_head", spoil)
    with pytest.raises(TrainingError, match="The head's 'bias' contains nan"):
        train(on_disk, method="linear_probe", settings={})


def test_a_further_file_of_features_is_what_a_method_chooses_on(on_disk, task):
    """Validation images whose labels are wrong in the file of the run, and right in the other."""
    rows = pl.DataFrame(
        {"image": ["a.png", "b.png"], "label": [2, 2]}, schema_overrides={"label": pl.Int32}
    ).with_columns(split=pl.lit("val"), view=pl.lit(0, pl.Int64))
    with open_features_writer(on_disk / "val.parquet", {"backbone": "small"}) as writer:
        writer.write(rows, task.train.pooled[[6, 6], 0], task.train.spatial[[6, 6], 0])
    method = METHODS["zero_shot"](METHODS["zero_shot"].settings_type())
    sources = Sources(on_disk / "texts.parquet", [on_disk / "features.parquet"])
    others = replace(sources, choose_on=[on_disk / "val.parquet"])
    shots, whole = (read_task(method, each, seed=1, device=CPU) for each in (sources, others))
    assert shots.val.labels.tolist() != [2, 2]
    assert whole.val.labels.tolist() == [2, 2]
    assert torch.equal(shots.train.pooled, whole.train.pooled)


@pytest.fixture
def fitted(monkeypatch):
    """The number of images that each linear probe is fitted on."""
    numbers, start = [], METHODS["linear_probe"].initial_head

    def watch(self, task):
        numbers.append(len(task.train.labels))
        return start(self, task)

    monkeypatch.setattr(METHODS["linear_probe"], "initial_head", watch)
    return numbers


def test_the_head_of_all_images_learns_from_those_that_were_kept_out_too(on_disk, fitted):
    heads = []
    for on_all in (False, True):
        run = train(on_disk, "linear_probe", on_all=on_all)
        assert run["val_accuracy"] is not None
        heads.append(load_file(on_disk / "run" / "head.safetensors"))
    assert fitted == [4, 4, 8]
    same = {name for name in heads[0] if torch.equal(heads[0][name], heads[1][name])}
    assert {"inverse_regularisation", "calibration.scores", "calibration.distances"} < same
    assert not same & {"weight", "calibration.centres"}


def test_the_head_of_all_images_is_calibrated_on_each_of_them_by_a_head_without_its_fold(
    on_disk, fitted, task
):
    rows = pl.DataFrame(
        {"image": [f"{row}.png" for row in range(12)], "label": task.train.labels},
        schema_overrides={"label": pl.Int32},
    )
    in_folds = rows.with_columns(
        split=pl.Series(["fold1", "fold2", "fold3"] * 4), view=pl.lit(0, pl.Int64)
    )
    with open_features_writer(on_disk / "features.parquet", {"backbone": "small"}) as writer:
        writer.write(in_folds, task.train.pooled[:, 0], task.train.spatial[:, 0])
    sampled = rows.with_columns(split=pl.Series(["val", "train", "train"] * 4))
    write_parquet(on_disk / "shots.parquet", sampled.sort("split"))
    sample = on_disk / "shots.parquet"
    train(on_disk, "linear_probe", on_all=True, sample=sample)
    assert fitted == [8, 12, 8, 8, 8]
    calibration = read_calibration(on_disk / "run" / "head.safetensors")
    assert sorted(calibration["labels"].tolist()) == task.train.labels.tolist()
    assert len(calibration["scores"]) == len(calibration["distances"]) == 12
    fitted.clear()
    train(on_disk, "linear_probe", on_all=True, sample=sample, dataset="birds@fold4")
    assert fitted == [8, 12]  # one that predicts a fold is calibrated on its validation images


def test_where_nothing_may_be_chosen_the_head_of_all_images_is_fitted_once(on_disk):
    settings = {"inverse_regularisation": [1.0]}
    run = train(on_disk, "linear_probe", settings, on_all=True, validation=False)
    assert run["val_accuracy"] is None
    assert not read_calibration(on_disk / "run" / "head.safetensors")


CHOOSING = [name for name in OF_FEATURES if METHODS[name](short_settings(name)).choices()]


@pytest.mark.parametrize("name", CHOOSING)
def test_a_fit_repeats_the_choices_of_an_earlier_one_and_needs_no_validation_shots(name, task):
    method = METHODS[name](short_settings(name))
    head, history = fit(method, task, CPU)
    assert task.choices.made
    choices = Choices(task.choices.made)
    again, repeated = fit(method, replace(task, val=None, choices=choices), CPU)
    assert choices.made == choices.earlier
    assert all(torch.equal(head[key], again[key]) for key in head)
    assert repeated.height <= history.height
