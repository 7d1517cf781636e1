"""The files of config/datasets/ as typed, validated objects."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator, model_validator

from vtclip.paths import DATASETS, PROJECT, why_outside
from vtclip.settings import (
    LARGEST,
    ConfigError,
    PathText,
    Settings,
    check,
    read_yaml,
    unknown,
)

HALVES = ("base", "new")
OWN_LAYOUTS = ("folders", "table")  # layouts of a user's own images
# Keys that some layouts need, and keys that only some use.
NEEDED = {"coop": ("split", "counts"), "folders": ("folder",), "table": ("table", "folder")}
USED = (
    (("levels", "split_folders"), ("folders",)),
    (("table", "columns"), ("table",)),
    (("class_names", "fractions"), OWN_LAYOUTS),
)


class ClassSplit(NamedTuple):
    """A dataset, half of its classes, or its images without those of one fold."""

    dataset: str
    half: str = ""  # "base" or "new"; "" for all classes
    fold: str = ""  # "fold1", "fold2", ...: the images to predict; "" to learn from all

    def __str__(self) -> str:
        """The name in paths and tables: `letters`, `letters@base`, or `letters@fold1`."""
        return "@".join(part for part in self if part)

    @classmethod
    def parse(cls, name: str) -> "ClassSplit":
        """Read a name in paths and tables."""
        dataset, at, part = name.rpartition("@")
        if at and re.fullmatch(r"fold\d+", part):
            return cls(dataset, fold=part)
        return cls(dataset, part) if at and part in HALVES else cls(name)

    def labels(self, classes: int) -> range:
        """Its labels in a dataset of K classes; the base half is the first and the larger one."""
        middle = -(-classes // 2)
        halves = {"base": range(middle), "new": range(middle, classes)}
        return halves.get(self.half, range(classes))


def dataset_name(name: str) -> str:
    """Name of the dataset whose files are read, for a dataset or a part of it."""
    return ClassSplit.parse(name).dataset


MEAN = "mean"  # the tables' name of the mean over datasets: no dataset may have it
# Each 10,000 test images are a job: an absurd number would be planned for hours.
Count = Annotated[int, Field(le=100_000_000)]


def _check_inside(path: str) -> str:
    if (reason := why_outside(path)) is not None:
        raise ValueError(f"the path {reason}")
    return path


def _check_pattern(pattern: str) -> str:
    """Check a pattern of paths with `{stem}`."""
    path = _check_inside(pattern.replace("{stem}", ""))
    if set("{}") & set(path):
        raise ValueError("braces are for {stem} alone")
    return pattern


Inside = Annotated[str, AfterValidator(_check_inside)]


Drawn = Literal[
    "digits", "letters", "digits_printed", "digits_noise", "digits_blur", "digits_rotation"
]

Exif = Literal["upright", "ignore"]


class Counts(Settings):
    """Numbers of images in each split, and of classes."""

    illustrated = frozenset({"train", "val", "test", "classes"})

    train: Count = Field(
        ge=0, description="training images; 0 for a dataset that only tests", examples=[4128]
    )
    val: Count = Field(ge=0, description="validation images", examples=[1649])
    test: Count = Field(ge=1, description="test images", examples=[2465])
    classes: Count = Field(ge=2, description="classes", examples=[100])


class ArchiveFile(Settings):
    """One file to download."""

    illustrated = frozenset({"file", "urls", "bytes", "sha256", "md5", "git_blob", "into"})

    file: Inside = Field(
        pattern=r"^[^/{}]*[^/.{}][^/{}]*$",  # braces are Snakemake's
        description="its name below resources/archives/<dataset>/, without braces",
        examples=["caltech-101.zip"],
    )
    urls: list[str] = Field(
        default=[],
        description="addresses, best first, `gdrive:<id>` among them; none if an account is needed",
        examples=[["https://..."]],
    )
    bytes: int | None = Field(
        default=None, ge=1, description="its length in bytes", examples=[137414764]
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="its SHA-256 checksum, 64 hexadecimal digits",
        examples=["331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91"],
    )
    md5: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{32}$",
        description="its MD5 checksum, 32 hexadecimal digits",
        examples=["3138e1922a9193bfa496528edbbc45d0"],
    )
    git_blob: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{40}$",
        description="its name in a Git repository, `git hash-object`, 40 hexadecimal digits",
        examples=["b5796c20e12c7448a9d78147fc9869b421d908d7"],
    )
    into: Annotated[str, AfterValidator(_check_pattern)] = Field(
        default="",
        description="the folder, inside the dataset's, that its members go to; {stem} stands for "
        "the name of a nested archive",
        examples=["train/{stem}"],
    )
    nested: str | None = Field(
        default=None,
        description="a pattern of members that are archives themselves",
        examples=["*.tar"],
    )


class Fractions(Settings):
    """Shares of the splits of one folder of class folders."""

    train: float = Field(default=0.5, gt=0, lt=1, description="training share")
    val: float = Field(default=0.2, gt=0, lt=1, description="validation share")
    seed: int = Field(default=0, ge=0, le=LARGEST, description=f"of the split, 0 to {LARGEST}")

    @model_validator(mode="after")
    def _check_shares(self) -> "Fractions":
        if self.train + self.val >= 1:
            raise ValueError("train and val leave nothing to test on: their sum must be below 1")
        return self

    def divide(self, images: int) -> tuple[int, int, int]:
        """Numbers of training, validation and test images of a class of three images or more."""
        train = min(max(1, round(self.train * images)), images - 2)
        val = min(max(1, round(self.val * images)), images - train - 1)
        return train, val, images - train - val


class Dataset(Settings):
    """One file of config/datasets/."""

    illustrated = frozenset({
        "archives", "class_names", "classes_of", "counts", "folder", "folds", "images", "leave_out",
        "split",
    })  # fmt: skip

    title: str = Field(
        min_length=1, description="the name in tables and figures", examples=["Caltech101"]
    )
    layout: Literal["coop", "fgvc", "imagenet", "imagenet_test", "folders", "table"] = Field(
        default="coop",
        description="coop (a split file in CoOp's JSON form), folders (a folder of your own), "
        "table (a table of labels and a folder of your own), fgvc, imagenet or imagenet_test "
        "(folders called as ImageNet's synsets or labels)",
    )
    archives: list[ArchiveFile] = Field(
        default=[],
        description="the files to download",
        examples=[[{"file": "images.tar.gz", "urls": ["https://..."], "bytes": 791918971}]],
    )
    images: Inside = Field(
        default="",
        description="the folder, inside the archives, that the split's image paths start from",
        examples=["101_ObjectCategories"],
    )
    drawn: Drawn | None = Field(
        default=None,
        description="the embedded dataset that the workflow draws itself",
        examples=["digits"],
    )
    split: Inside | None = Field(
        default=None,
        description="layout coop: the split file's name",
        examples=["split_zhou_Caltech101.json"],
    )
    folder: PathText | None = Field(
        default=None,
        description="a folder of your own. Layout folders: it contains class folders, or train, "
        "val and test folders with class folders inside. Layout table: it contains the images. "
        "Layout coop: it contains the split file",
        examples=["/data/my-photographs"],
    )
    levels: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="layout folders: levels of folders down to the classes, below the split "
        "folders if there are any; class folders of one name are one class",
        examples=[2],
    )
    split_folders: dict[str, Literal["train", "val", "test"]] = Field(
        default={},
        description="layout folders: split folder -> train, val or test, if its name is another",
        examples=[{"trn": "train", "tst": "test"}],
    )
    fractions: Fractions = Field(
        default=Fractions(),
        description="layouts folders and table, without a split of their own: the shares",
        examples=[{"train": 0.5, "val": 0.2, "seed": 0}],
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="no image is kept for a test alone: the images are divided into so many folds, "
        "and each is predicted by heads that were trained on the other folds",
        examples=[5],
    )
    class_names: dict[str, str] = Field(
        default={},
        description="layouts folders and table: class folder or label -> its name in a prompt",
        examples=[{"n02123045": "tabby cat"}],
    )
    table: PathText | None = Field(
        default=None,
        description="layout table: a file with a row for each image, CSV or JSON lines",
        examples=["/data/labels.csv"],
    )
    columns: dict[Literal["path", "label", "split"], str] = Field(
        default={},
        description="layout table: its columns of paths (or file names, with or without suffix), "
        "of labels, and of splits, which are found by content if they are not named",
        examples=[{"path": "file_name", "label": "species"}],
    )
    classes_of: str | None = Field(
        default=None,
        description="the dataset whose classes these are, or some of them: heads of its classes "
        "can then be tested here",
        examples=["imagenet"],
    )
    exif: Exif = Field(
        default_factory=lambda keys: "upright" if keys.get("layout") in OWN_LAYOUTS else "ignore",
        description="the orientation that a camera has noted in an image: upright (turn it, the "
        "default of layouts folders and table) or ignore (as CLIP's transform does, the default "
        "of the others)",
        examples=["ignore"],
    )
    leave_out: list[str] = Field(
        default=[],
        description="images to leave out, as the manifest names them: they cannot be read",
        examples=[["images/beagle_116.jpg"]],
    )
    templates: list[str] = Field(
        default=["a photo of a {}."],
        min_length=1,
        description="prompts in which {} stands for the class name, once, without another brace",
    )
    counts: Counts | None = Field(
        default=None,
        description="the numbers that the split must have; may be left out for layouts folders "
        "and table",
        examples=[{"train": 4128, "val": 1649, "test": 2465, "classes": 100}],
    )
    licence: str = Field(default="", description="the images' licence", examples=["CC BY 4.0"])
    source: str = Field(
        default="", description="where the images come from", examples=["https://..."]
    )
    citation: str = Field(default="", description="how to cite it", examples=["Li et al., 2022"])

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: list[str]) -> list[str]:
        for template in templates:
            # `str.format` fills it.
            if template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
                raise ValueError(f"no place for the class name, or another one: {template!r}")
        return templates

    @model_validator(mode="after")
    def _check_layout(self) -> "Dataset":
        needs = NEEDED.get(self.layout, ("counts",))
        for key in needs:
            if getattr(self, key) is None:
                raise ValueError(f"layout {self.layout} needs the key '{key}'")
        for keys, layouts in USED:
            for key in () if self.layout in layouts else keys:
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(
                        f"layout {self.layout} does not use '{key}': layout {layouts[0]} does"
                    )
        if self.folds and "fractions" in self.model_fields_set:
            raise ValueError("folds use all images: write 'folds' or 'fractions', not both")
        return self


def list_datasets(folder: str | Path | None = None) -> dict[str, Path]:
    """List the dataset files by name: of a folder, or of config/datasets here and in the project.

    A file here comes before the project's.
    """
    places = [Path(folder)] if folder else [PROJECT / DATASETS, Path(DATASETS)]
    return {file.stem: file for place in places for file in place.glob("*.yaml")}


def check_known(names: Iterable[str], *, source: str) -> None:
    """Refuse names of datasets that have no file; `source` is the key that names them."""
    known = list_datasets()
    for name in names:
        if name not in known:
            error = unknown("dataset", name, known, source=source)
            raise ConfigError(f"{error}{_find_other_suffix(name)}")


def _find_other_suffix(name: str) -> str:
    """A sentence about a file that would be this dataset's by its name, but for its suffix."""
    files = Path(DATASETS).iterdir() if Path(DATASETS).is_dir() else ()
    wanted = Path(name).stem if name.endswith((".yml", ".YAML", ".YML")) else name
    found = sorted(str(file) for file in files if file.stem == wanted and file.suffix != ".yaml")
    if not found:
        return ""
    return f"\n  {found[0]} is no dataset's file: rename it to {wanted}.yaml, and write {wanted}."


def read_dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """Read and check one dataset file; the folder is as for `list_datasets`."""
    files = list_datasets(folder)
    if name not in files:
        raise unknown("dataset", name, files, source=f"{folder or DATASETS}/")
    path = files[name]
    return check(Dataset, read_yaml(path), source=str(path))
