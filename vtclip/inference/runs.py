"""Trained heads by their name or path: a run's folder, or a file of `vtclip export`."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from vtclip import paths
from vtclip.backbones.checkpoints import read_metadata
from vtclip.backbones.known import custom_content
from vtclip.config.backbone_config import BackboneConfig, SpatialKind
from vtclip.config.dataset import ClassSplit
from vtclip.config.experiment import Experiment, read_experiment
from vtclip.features.texts import read_class_names, read_texts
from vtclip.files import check_receipt, read_record
from vtclip.inference.saved import Description, Saved, SavedError, find_weights, read_exported
from vtclip.parquet import read_parquet
from vtclip.settings import check, read_yaml
from vtclip.tensors import read_calibration, read_head
from vtclip.training.calibration import Calibration
from vtclip.wording import list_some

ORIGIN = ("backbone", "pretrained", "weights_sha256", "spatial", "precision", "exif")


def read_saved(source: str | Path, backbone: str | Path | None = None) -> Saved:
    """Read a run's folder, a file of `vtclip export`, or a run by its name below results/.

    `backbone` is another file of its backbone's weights, to use instead.
    """
    path = Path(source)
    if path.is_dir():
        saved = _read_run(path)
    elif path.is_file():
        saved = _read_run(path.parent) if path.name == paths.HEAD else read_exported(path)
    else:
        saved = _read_run(_find_run(str(source)))
    if backbone is None:
        return saved
    if not Path(backbone).is_file():
        raise SavedError(f"{backbone}: there is no such file of weights.")
    return replace(saved, weights=Path(backbone), has_backbone=False)


def _find_run(name: str) -> Path:
    """The folder of a run by its name: experiment/dataset/method/run.

    Where an experiment has several backbones the name needs the backbone's, as
    experiment/backbone/dataset/method/run. `experiment/best`, or `experiment/dataset/best`, is the
    head that the report says to take.
    """
    wanted = name.strip("/")
    experiment, *dataset = wanted.removesuffix("/best").split("/")
    best = Path(paths.ExperimentPaths(experiment).best)
    if wanted.endswith("/best") and best.is_file():
        return _find_best(name, experiment, dataset, read_record(best))
    runs, short_names = {}, {}
    for head in sorted(Path("results").glob(f"*/heads/*/*/*/*/{paths.HEAD}")):
        _, experiment, _, backbone, *rest, _ = head.parts
        run = "/".join([experiment, backbone, *rest])
        runs[run], short_names[run] = head.parent, "/".join([experiment, *rest])
    found = [run for run in runs if wanted in (run, short_names[run])]
    if len(found) == 1:
        return runs[found[0]]
    if found:
        raise SavedError(
            f"'{name}' is {len(found)} heads: name the backbone too.\n  found:    "
            + "\n            ".join(found)
        )
    raise SavedError(
        f"{name}: there is no such file or folder, and no such run below results/.\n"
        "  expected: a run's folder, a file of `vtclip export`, or a name such as "
        f"demo/digits/vt_clip/16shot-seed1\n  {_suggest(wanted, short_names.values(), runs)}"
    )


def _suggest(name: str, short_names: Iterable[str], runs: Iterable[str]) -> str:
    """Name the heads whose names are near, or some of the same experiment; the best ones first."""
    known = [*_list_best(), *short_names]
    if close := difflib.get_close_matches(name, [*known, *runs], n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(close)}?"
    same = [each for each in known if each.split("/")[0] == name.split("/")[0]]
    return f"There are: {list_some(same or known)}." if known else "There are no heads."


def _list_best() -> list[str]:
    """Names of the heads that reports say to take."""
    return [
        f"{file.parent.name}/{dataset}/best"
        for file in sorted(Path("results").glob("*/best.json"))
        for dataset in read_record(file)
    ]


def _find_best(
    name: str, experiment: str, dataset: list[str], chosen: Mapping[str, dict[str, Any]]
) -> Path:
    """The folder of the head to take of a dataset, or of the only one there is."""
    wanted = dataset or list(chosen)
    if len(wanted) == 1 and wanted[0] in chosen:
        return Path(chosen[wanted[0]]["head"]).parent
    names = ", ".join(f"{experiment}/{each}/best" for each in chosen)
    run = "a run's name: without validation shots there is nothing to choose a head on"
    raise SavedError(f"{name}: expected {f'one of {names}' if chosen else run}.")


def _read_run(folder: Path) -> Saved:
    """Read a run's folder, whose path says where texts and backbone are."""
    experiment, _, backbone, dataset, method, _ = _split_path(folder)
    root, in_experiment = folder.absolute().parents[6], paths.ExperimentPaths(experiment)
    made_by = _read_experiment(root / in_experiment.config)
    split = ClassSplit.parse(dataset)
    texts_file = root / paths.TEXTS.format(
        backbone=backbone, dataset=split.dataset, texts=made_by.texts_name
    )
    if not texts_file.is_file():
        raise SavedError(f"{texts_file}: the head's texts are not there. Run Snakemake again.")
    record = read_record(folder / "run.json")
    texts, made = read_texts(texts_file)
    _check_origin(folder, record.get("features", {}), texts_file, made)
    labels = split.labels(len(texts))
    classes = slice(labels.start, labels.stop)
    used = _find_backbone(made_by, backbone)
    weights = find_weights(used.weights, root)
    place = {"backbone": backbone, "dataset": dataset, "method": method, "tested": dataset}
    run = {key: record.get(key) for key in ("shots", "seed", "val_accuracy")}
    tested = _read_accuracy(root / in_experiment.predictions.format(**place), record)
    described = {
        "method": record["method"], "settings": record["settings"],
        "class_names": read_class_names(texts_file)[classes], "templates": made["templates"],
        "probe": made.get("probe"), "logit_scale": made["logit_scale"],
        "exif": made.get("exif", "ignore"),
        "backbone": {
            "name": made["backbone"], "weights": used.weights,
            "pretrained": str(made["pretrained"]), "weights_sha256": made["weights_sha256"],
            "spatial": made["spatial"], "precision": made["precision"],
            "architecture": _read_architecture(used, root),
            "preprocess": read_metadata(weights).get("preprocess") if weights else None,
        },
        "run": {"experiment": experiment, "dataset": dataset, **run, "test_accuracy": tested},
    }  # fmt: skip
    description = check(Description, described, source=str(folder))
    head, calibration = read_head(folder / paths.HEAD), read_calibration(folder / paths.HEAD)
    return Saved(
        folder, description, head, texts[classes], weights,
        calibration=Calibration.read(calibration),
    )  # fmt: skip


def _split_path(folder: Path) -> tuple[str, ...]:
    """The last six parts of a run's folder, from the experiment's on."""
    if not (folder / paths.HEAD).is_file():
        raise SavedError(
            f"{folder}: no head is in this folder.\n"
            f"  expected: a run's folder, with {paths.HEAD} and run.json"
        )
    places = folder.absolute().parts
    if len(places) < 8 or (places[-5], places[-7]) != ("heads", "results"):
        raise SavedError(
            f"{folder}: a run's classes and backbone are found by its path, which is another one.\n"
            "  expected: results/<experiment>/heads/<backbone>/<dataset>/<method>/<run>\n"
            "  To move a head: vtclip export HEAD FILE"
        )
    return places[-6:]


def _read_accuracy(predictions: Path, run: Mapping[str, Any]) -> float | None:
    """Accuracy, 0 .. 1, of a run on the test images, if it has been tested."""
    if not predictions.is_file():
        return None
    rows = read_parquet(predictions, "shots", "seed", "label", "prediction")
    own = rows.filter(shots=run["shots"], seed=run["seed"])
    hits = own.filter(own["label"] == own["prediction"]).height
    return hits / own.height if own.height else None


def _check_origin(
    folder: Path, trained: Mapping[str, Any], texts: Path, made: Mapping[str, Any]
) -> None:
    """Refuse texts of another backbone than the head was trained with."""
    for key in ORIGIN:
        if key in trained and trained[key] != made.get(key):
            raise SavedError(
                f"{folder}: the head goes with another backbone than {texts}.\n"
                f"  found:    {key}: {made.get(key)}\n  expected: {key}: {trained[key]}\n"
                "  Run Snakemake again: it makes the older of the two once more."
            )


def _read_experiment(file: Path) -> Experiment:
    """The experiment that made a head, from its configuration."""
    if not file.is_file():
        raise SavedError(f"{file}: the experiment's configuration is not there.")
    check_receipt(file)
    return read_experiment(read_yaml(file), source=str(file))


def _find_backbone(experiment: Experiment, folder: str) -> BackboneConfig:
    """The backbone of an experiment by its folder of features."""
    for backbone in experiment.all_backbones:
        for spatial in get_args(SpatialKind):
            used = backbone.model_copy(update={"spatial": spatial})
            if used.folder == folder:
                return used
    raise SavedError(f"results/{experiment.name}: none of its backbones is called {folder}.")


def _read_architecture(backbone: BackboneConfig, root: Path) -> dict[str, Any] | None:
    """The content of a custom architecture, whose path starts at the folder of the run."""
    given = backbone.architecture
    if given is not None and (root / given).is_file():
        backbone = backbone.model_copy(update={"architecture": str(root / given)})
    return custom_content(backbone)
