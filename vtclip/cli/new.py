"""Inspect a folder of class folders or a table of labels, and write the files for an experiment.

FOLDER contains a folder of images for each class, or train, val and test folders with these inside,
or a table called metadata.csv or metadata.jsonl. TABLE is CSV or JSON lines, with a row for each
image: its path and its label, and perhaps its split.
The files are config/datasets/DATASET.yaml and the experiment config/DATASET.yaml.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtclip import paths
from vtclip.config.dataset import MEAN, Dataset
from vtclip.data.pick_lists import count_validation
from vtclip.data.walk import TABLES
from vtclip.files import write_text
from vtclip.settings import ConfigError, check, read_config, refusal
from vtclip.wording import (
    count,
    explain_alike,
    find_alike,
    inline,
    list_lines,
    list_some,
    to_yaml,
)

if TYPE_CHECKING:
    from polars import DataFrame

    from vtclip.data.inventory import Survey

HELP = "start an experiment on your own images"
EXAMPLES = """examples:
  vtclip new birds ~/photographs/birds
  vtclip new birds ~/photographs/birds --template 'a photo of a {}, a type of bird.'
  vtclip new birds labels.csv --images photographs/ --label-column species
"""

FOLDS = 5
LARGE = 100  # images of a class, with which some can be kept for a test
COLUMNS = ("path", "label", "split")  # of a table
OF_OTHERS = ("name", "ablation", "tests", "picks")  # keys about other runs or datasets
METADATA = ("metadata.csv", "metadata.jsonl")  # tables in folders as Hugging Face's imagefolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="a name for the dataset")
    parser.add_argument(
        "source", metavar="FOLDER|TABLE", help="the folder of class folders, or the table of labels"
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="the folder with the images of a table (default: the table's own)",
    )
    for column in COLUMNS:
        parser.add_argument(
            f"--{column}-column",
            metavar="NAME",
            help=f"the table's column of {column}s (default: found by content)",
        )
    parser.add_argument(
        "--levels",
        type=int,
        metavar="N",
        help="levels of folders down to the classes, below split folders (default: 1)",
    )
    parser.add_argument(
        "--split-folders",
        nargs="+",
        default=[],
        metavar="FOLDER=SPLIT",
        help="folders with train, val and test images, such as trn=train tst=test",
    )
    parser.add_argument(
        "--template",
        default="a photo of a {}.",
        help="the sentence that CLIP reads, with {} for the class name (default: %(default)s)",
    )
    parser.add_argument(
        "--like",
        metavar="CONFIG",
        default="config/first.yaml",
        help="the experiment to copy the backbone, methods, shots and seeds from "
        "(default: %(default)s)",
    )


def run(given: argparse.Namespace) -> int:
    """Write the two files, and print what was found."""
    from vtclip.cli.run import find
    from vtclip.cli.status import read_plan
    from vtclip.data.inventory import survey_folder
    from vtclip.data.manifest import leave_out

    dataset_file, experiment_file = _check_name(given.dataset)
    like = _read_like(find(given.like))
    described = describe_source(given)
    # Its file is not there yet: options have nearly the same names as its keys.
    checked = check(Dataset, described, source="options of vtclip new").model_dump(mode="json")
    if "table" in described:
        described["columns"] = _find_columns(checked)
        checked["columns"] = described["columns"]
    if use_folds(checked, described["folder"]):
        described["folds"] = checked["folds"] = FOLDS
    survey = survey_folder(checked, described["folder"])
    print("\n".join(describe_survey(survey)))
    if survey.damaged:
        described["leave_out"] = list(survey.damaged)
    leave_out(survey.manifest, list(survey.damaged), described["folder"])
    experiment = make_experiment(given.dataset, like, survey)
    try:
        write_text(dataset_file, to_yaml(described))
        write_text(experiment_file, to_yaml(experiment))
        plan = read_plan([experiment_file])
    except BaseException:  # also of a full disk, or Ctrl-C
        for file in (dataset_file, experiment_file):
            Path(file).unlink(missing_ok=True)
        raise
    in_clone = Path("Snakefile").is_file()
    command = "snakemake --cores all --configfile" if in_clone else "vtclip run"
    print(
        f"\nWrote {dataset_file} and {experiment_file}: {count(len(plan.own_runs), 'run')}, shots "
        f"{', '.join(map(str, experiment['shots']))}.\n"
        "If the classes' names are not words, name them under `class_names:` in "
        f"{dataset_file}.\nNext: {command} {experiment_file}"
    )
    return 0


def describe_source(given: argparse.Namespace) -> dict[str, Any]:
    """The dataset's file for a folder or a table, as plain values."""
    source = Path(given.source)
    tables = [path for name in METADATA if (path := source / name).is_file()]
    is_table = source.suffix.lower() in TABLES and not source.is_dir()
    table = source if is_table or source.is_file() else tables[0] if tables else None
    columns = {c: name for c in COLUMNS if (name := getattr(given, f"{c}_column"))}
    described: dict[str, Any] = {"title": given.dataset}
    if table is None:
        described |= {"layout": "folders", "folder": given.source}
    else:
        folder = given.images or str(table.parent)
        described |= {"layout": "table", "table": str(table), "folder": folder}
    if given.levels is not None:
        described["levels"] = given.levels
    if given.split_folders:
        described["split_folders"] = dict(_read_pair(pair) for pair in given.split_folders)
    if columns:
        described["columns"] = columns
    if columns and table is None:
        option, expected = f"--{next(iter(columns))}-column", "a table, CSV or JSON lines"
        raise refusal(option, "a folder has no columns", found=given.source, expected=expected)
    if given.images and table is None:
        expected = "a table, CSV or JSON lines; --images names the folder of its images"
        raise refusal("TABLE", "this is not a table", found=given.source, expected=expected)
    return described | {"templates": [given.template]}


def _find_columns(dataset: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a table, by content where they are not named."""
    from vtclip.data.images import has_suffix
    from vtclip.data.label_table import read_table

    table = read_table(dataset, dataset["folder"])
    shown = [f"{name or '(no name)'} ({kind})" for kind, name in table.columns.items()]
    unused = f"; not used: {list_some(table.unused)}" if table.unused else ""
    print(f"Columns: {', '.join(shown)}{unused}.")
    if "split" not in table.columns and any(split for *_, split in table.rows):
        print("Splits: by the folders of the images.")
    if rest := [path for path in table.without_row if has_suffix(path)]:
        print(f"Not used, as no row names them: {count(len(rest), 'image')}: {list_some(rest)}.")
    return dict(table.columns)


def use_folds(dataset: dict[str, Any], folder: str) -> bool:
    """True for images without a split, in classes so small that each image is needed to learn."""
    from vtclip.data.layouts import UNSPLIT, read_layout

    manifest = read_layout(dataset | {"folds": FOLDS}, folder)
    sizes = manifest["label"].value_counts()["count"].to_list()
    return bool((manifest["split"] == UNSPLIT).all()) and FOLDS <= min(sizes) < LARGE


def _most_shots(counts: DataFrame) -> int:
    """The number of training images per class that all classes have."""
    if "images" in counts.columns:
        smallest = min(counts["images"])
        rest = smallest - -(-smallest // FOLDS)  # without one fold
        return rest - count_validation(rest)
    most = int(counts["train"].to_numpy().min())
    # Validation shots come out of the training images where there are no others.
    return most if counts["val"].sum() else most - 1


def _read_like(file: str) -> dict[str, Any]:
    """The experiment to copy from, with its shots as a list; they may not differ by class."""
    from vtclip.config.experiment import read_experiment

    like = read_config(file)
    experiment = read_experiment({"datasets": ["replaced"], **like}, source=file)
    if experiment.uneven is not None:
        raise refusal(
            "--like", "its numbers of shots differ from class to class",
            found=f"{file}: shots: {inline(like['shots'])}",
            expected="an experiment whose shots are a list",
        )  # fmt: skip
    return like | {"shots": list(map(paths.format_shots, experiment.shots))}


def make_experiment(name: str, like: dict[str, Any], survey: Survey) -> dict[str, Any]:
    """Make an experiment on a dataset like another one, with the shots that all classes have."""
    counts = survey.count()
    most = _most_shots(counts)
    given = [number for number in like["shots"] if number != "all"]
    shots = [number for number in given if number <= most]
    if given and not shots:
        smallest = counts.sort(counts.columns[2])["class_name"][0]
        raise ConfigError(
            f"class '{smallest}' has too few images: at most {most} to train on, and the smallest "
            f"number of shots is {min(given)}. Add images of it."
        )
    if "images" in counts.columns or given != like["shots"]:
        shots.append("all")  # the head to use learns from all images
    kept = {key: value for key, value in like.items() if key not in OF_OTHERS}
    return kept | {"datasets": [name], "shots": shots}


def describe_survey(survey: Survey) -> list[str]:
    """Describe a folder's images in lines of text."""
    counts = survey.count()
    totals = {split: int(counts[split].sum()) for split in counts.columns[2:]}
    uses = f"in {FOLDS} folds, each to be predicted by heads that learn from the others"
    if "test" in totals:
        uses = "{train} to train, {val} to validate, {test} to test".format(**totals)
        if not totals["val"]:
            uses += "; runs validate on training images that they have not drawn"
    lines = [f"{counts.height} classes, {count(sum(totals.values()), 'image')}: {uses}."]
    widest = max(counts["class_name"].str.len_chars().to_list())
    for _, name, *numbers in counts.iter_rows():
        lines.append(f"  {name:{min(widest, 40)}}  " + " ".join(f"{n:>6}" for n in numbers))
    if alike := find_alike(counts["class_name"]):
        lines.append(f"{explain_alike(alike, 'Names')} Name them apart under `class_names:`.")
    if survey.damaged:
        lines.append(f"Not readable, and left out: {count(len(survey.damaged), 'image')}:")
        damaged = [f"{image}: {why}" for image, why in survey.damaged.items()]
        lines.append(f"  {list_lines(damaged)}")
    if survey.equal:
        mixed = survey.mixed()
        groups = count(len(survey.equal), "group")
        lines.append(
            f"{groups} of identical images, {len(mixed)} of them in several "
            "splits or classes" + (": keep each of these in one place only." if mixed else ".")
        )
        lines.append(f"  {list_lines([' = '.join(group) for group in mixed or survey.equal])}")
    return lines


def _read_pair(pair: str) -> tuple[str, str]:
    """Read the name of a split folder and its split, FOLDER=SPLIT."""
    folder, equals, split = pair.rpartition("=")
    if not equals:
        expected = "pairs such as trn=train tst=test"
        raise refusal("--split-folders", "no split is named", found=pair, expected=expected)
    return folder, split


def _check_name(name: str) -> tuple[str, str]:
    """Names of the two files to write."""
    reserved = (*paths.SHARED, MEAN)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or name in reserved:
        expected = (
            "letters, digits, '.', '_' and '-', beginning with a letter or digit; and none of "
            f"{', '.join(reserved)}, which are used"
        )
        problem = "this is not a valid name for a dataset"
        raise refusal("DATASET", problem, found=name, expected=expected)
    files = f"{paths.DATASETS}/{name}.yaml", f"config/{name}.yaml"
    for file in files:
        if Path(found := paths.find_own(file)).exists():
            mend = "choose another name" + (", or delete the file" if found == file else "")
            raise ConfigError(f"{found} already exists: {mend}.")
    return files
