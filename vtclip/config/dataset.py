"""The files of config/datasets/ as typed, validated objects."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator, model_validator

from vtclip.paths import DATASETS, PROJECT, why_outside
from vtclip.settings import LARGEST, ConfigError, PathText, Settings, check, read_yaml, unknown

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

    train: Count = Field(ge=0, examples=[4128])
    """training images; 0 for a dataset that only tests"""
    val: Count = Field(ge=0, examples=[1649])
    """validation images"""
    test: Count = Field(ge=1, examples=[2465])
    """test images"""
    classes: Count = Field(ge=2, examples=[100])
    """classes"""


class ArchiveFile(Settings):
    """One file to download."""

    illustrated = frozenset({"file", "urls", "bytes", "sha256", "md5", "git_blob", "into"})

    # Braces are Snakemake's.
    file: Inside = Field(pattern=r"^[^/{}]*[^/.{}][^/{}]*$", examples=["caltech-101.zip"])
    """its name below resources/archives/<dataset>/, without braces"""
    urls: list[str] = Field([], examples=[["https://..."]])
    """addresses, best first, `gdrive:<id>` among them; none if an account is needed"""
    bytes: int | None = Field(None, ge=1, examples=[137414764])
    """its length in bytes"""
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        examples=["331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91"],
    )
    """its SHA-256 checksum, 64 hexadecimal digits"""
    md5: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", examples=["3138e1922a9193bfa496528edbbc45d0"]
    )
    """its MD5 checksum, 32 hexadecimal digits"""
    git_blob: str | None = Field(
        None, pattern="^[0-9a-f]{40}$", examples=["b5796c20e12c7448a9d78147fc9869b421d908d7"]
    )
    """its name in a Git repository, `git hash-object`, 40 hexadecimal digits"""
    into: Annotated[str, AfterValidator(_check_pattern)] = Field("", examples=["train/{stem}"])
    """the folder, inside the dataset's, that its members go to; {stem} stands for the name of a
    nested archive"""
    nested: str | None = Field(None, examples=["*.tar"])
    """a pattern of members that are archives themselves"""

    @property
    def expected(self) -> dict[str, Any]:
        """Its length and checksums; `git_blob` where one is known, which few have."""
        found = self.model_dump(include={"bytes", "sha256", "md5"})
        return found | self.model_dump(include={"git_blob"}, exclude_none=True)


class Fractions(Settings):
    """Shares of the splits of one folder of class folders."""

    train: float = Field(0.5, gt=0, lt=1)
    """training share"""
    val: float = Field(0.2, gt=0, lt=1)
    """validation share"""
    seed: int = Field(0, ge=0, le=LARGEST)
    """of the split, 0 to 2147483647"""

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

    title: str = Field(min_length=1, examples=["Caltech101"])
    """the name in tables and figures"""
    layout: Literal["coop", "fgvc", "imagenet", "imagenet_test", "folders", "table"] = "coop"
    """coop (a split file in CoOp's JSON form), folders (a folder of your own), table (a table of
    labels and a folder of your own), fgvc, imagenet or imagenet_test (folders called as ImageNet's
    synsets or labels)"""
    archives: list[ArchiveFile] = Field(
        [], examples=[[{"file": "images.tar.gz", "urls": ["https://..."], "bytes": 791918971}]]
    )
    """the files to download"""
    images: Inside = Field("", examples=["101_ObjectCategories"])
    """the folder, inside the archives, that the split's image paths start from"""
    drawn: Drawn | None = Field(None, examples=["digits"])
    """the embedded dataset that the workflow draws itself"""
    split: Inside | None = Field(None, examples=["split_zhou_Caltech101.json"])
    """layout coop: the split file's name"""
    folder: PathText | None = Field(None, examples=["/data/my-photographs"])
    """a folder of your own. Layout folders: it contains class folders, or train, val and test
    folders with class folders inside. Layout table: it contains the images. Layout coop: it
    contains the split file"""
    levels: int | None = Field(None, ge=1, le=20, examples=[2])
    """layout folders: levels of folders down to the classes, below the split folders if there are
    any; class folders of one name are one class"""
    split_folders: dict[str, Literal["train", "val", "test"]] = Field(
        {}, examples=[{"trn": "train", "tst": "test"}]
    )
    """layout folders: split folder -> train, val or test, if its name is another"""
    fractions: Fractions = Field(Fractions(), examples=[{"train": 0.5, "val": 0.2, "seed": 0}])
    """layouts folders and table, without a split of their own: the shares"""
    folds: int | None = Field(None, ge=2, le=20, examples=[5])
    """no image is kept for a test alone: the images are divided into so many folds, and each is
    predicted by heads that were trained on the other folds"""
    class_names: dict[str, str] = Field({}, examples=[{"n02123045": "tabby cat"}])
    """layouts folders and table: class folder or label -> its name in a prompt"""
    table: PathText | None = Field(None, examples=["/data/labels.csv"])
    """layout table: a file with a row for each image, CSV or JSON lines"""
    columns: dict[Literal["path", "label", "split"], str] = Field(
        {}, examples=[{"path": "file_name", "label": "species"}]
    )
    """layout table: its columns of paths (or file names, with or without suffix), of labels, and of
    splits, which are found by content if they are not named"""
    classes_of: str | None = Field(None, examples=["imagenet"])
    """the dataset whose classes these are, or some of them: heads of its classes can then be tested
    here"""
    exif: Exif = Field(
        default_factory=lambda keys: "upright" if keys.get("layout") in OWN_LAYOUTS else "ignore",
        examples=["ignore"],
    )
    """the orientation that a camera has noted in an image: upright (turn it, the default of layouts
    folders and table) or ignore (as CLIP's transform does, the default of the others)"""
    leave_out: list[str] = Field([], examples=[["images/beagle_116.jpg"]])
    """images to leave out, as the manifest names them: they cannot be read"""
    templates: list[str] = Field(["a photo of a {}."], min_length=1)
    """prompts in which {} stands for the class name, once, without another brace"""
    counts: Counts | None = Field(
        None, examples=[{"train": 4128, "val": 1649, "test": 2465, "classes": 100}]
    )
    """the numbers that the split must have; may be left out for layouts folders and table"""
    licence: str = Field("", examples=["CC BY 4.0"])
    """the images' licence"""
    source: str = Field("", examples=["https://..."])
    """where the images come from"""
    citation: str = Field("", examples=["Li et al., 2022"])
    """how to cite it"""

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
