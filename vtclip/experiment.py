"""The experiment and the dataset files as typed, validated objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from vtclip.settings import ConfigError, Settings, check, unknown


def _distinct(values: list[Any]) -> list[Any]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{repeated[0]!r} is named twice")
    return values


Distinct = AfterValidator(_distinct)
SpatialKind = Literal["projected", "raw"]


class Backbone(Settings):
    """The frozen CLIP."""

    name: str = Field(
        description="a model name of open_clip, or a name of your own with `architecture`",
        examples=["RN50-quickgelu"],
    )
    pretrained: str = Field(
        description="open_clip's tag for the weights, or a file of weights",
        examples=["openai"],
    )
    architecture: str | None = Field(
        default=None,
        description="a model configuration in open_clip's JSON form, for a model it does not know",
        examples=["config/backbones/glyph-clip.json"],
    )
    spatial: SpatialKind = Field(
        default="projected",
        description="spatial features in the joint space (projected), or before pooling (raw)",
        examples=["projected"],
    )

    @property
    def folder(self) -> str:
        """The name as one part of a path."""
        return self.name.replace("/", "-")

    def features_folder(self, spatial: SpatialKind) -> str:
        """The same for what is made with one kind of spatial features."""
        return self.folder if spatial == "projected" else f"{self.folder}-{spatial}"


class Views(Settings):
    """The cached views of each training image."""

    number: int = Field(
        default=4, ge=0, description="random views beside the test view, 0 or more", examples=[4]
    )
    scale: tuple[float, float] = Field(
        default=(0.5, 1.0),
        description="smallest and largest share of the image's area in a crop, within 0 .. 1",
        examples=[[0.5, 1.0]],
    )
    flip: bool = Field(
        default=True, description="whether half of the views are mirrored", examples=[True]
    )


class Ablation(Settings):
    """What is varied, and at which runs of the experiment."""

    method: str = Field(
        default="vt_clip",
        description="the method, one of the experiment's `methods`",
        examples=["vt_clip"],
    )
    shots: list[int] | None = Field(
        default=None,
        description="some of the experiment's `shots`; left out, all",
        examples=[[1, 16]],
    )
    seeds: list[int] | None = Field(
        default=None,
        description="some of the experiment's `seeds`; left out, all",
        examples=[[1, 2, 3]],
    )
    one_at_a_time: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default={},
        description="setting -> values; each is tried with all else as the experiment has it",
        examples=[{"heads": [1, 4], "spatial": ["raw"]}],
    )
    crossed: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default={},
        description="setting -> values; every combination is tried",
        examples=[{"learning_rate": [0.001, 0.003], "weight_decay": [0.0, 1.0]}],
    )


class Experiment(Settings):
    """What is computed: one few-shot table."""

    backbone: Backbone = Field(
        description="the frozen CLIP", examples=[{"name": "RN50-quickgelu", "pretrained": "openai"}]
    )
    datasets: Annotated[list[str], Distinct] = Field(
        min_length=1,
        description="names of files in config/datasets/, each once",
        examples=[["digits", "letters"]],
    )
    shots: Annotated[list[Annotated[int, Field(ge=1)]], Distinct] = Field(
        min_length=1,
        description="numbers of labelled images a class, 1 or more, each once",
        examples=[[1, 2, 4, 8, 16]],
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Distinct] = Field(
        min_length=1, description="whole numbers, 0 or more, each once", examples=[[1, 2, 3]]
    )
    views: Views = Field(
        default=Views(),
        description="the cached views of each training image",
        examples=[{"number": 4, "scale": [0.5, 1.0], "flip": True}],
    )
    methods: dict[str, dict[str, Any] | None] = Field(
        min_length=1,
        description="method names, each with its settings or with nothing",
        examples=[{"zero_shot": None, "vt_clip": {"learning_rate": 0.001}}],
    )
    ablation: Ablation | None = Field(
        default=None,
        description="variants of one method, for a table of their own",
        examples=[{"one_at_a_time": {"heads": [1, 4]}}],
    )
    mirror: str | None = Field(
        default=None,
        description="a folder or an http(s) address that holds <dataset>/<file>, asked in place "
        "of all the addresses of the dataset files",
        examples=["/data/archives"],
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto, cpu or cuda", examples=["auto"]
    )
    slots_per_gpu: int = Field(
        default=1,
        ge=1,
        description="jobs that may share a GPU, 1 or more; `--resources gpu=` then counts slots",
        examples=[1],
    )


class Counts(Settings):
    """How many images a split holds, and how many classes there are."""

    train: int = Field(ge=1, description="training images", examples=[4128])
    val: int = Field(ge=0, description="validation images", examples=[1649])
    test: int = Field(ge=1, description="test images", examples=[2465])
    classes: int = Field(ge=2, description="classes", examples=[100])


class ArchiveFile(Settings):
    """One file to download."""

    file: str = Field(
        pattern=r"^[^/]+$",
        description="its name below resources/archives/<dataset>/",
        examples=["caltech-101.zip"],
    )
    urls: list[str] = Field(
        default=[],
        description="addresses, best first, `gdrive:<id>` among them; none if it takes an account",
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
    into: str = Field(
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
    """How one folder of class folders is split."""

    train: float = Field(default=0.5, gt=0, lt=1, description="training share", examples=[0.5])
    val: float = Field(default=0.2, gt=0, lt=1, description="validation share", examples=[0.2])
    seed: int = Field(default=0, ge=0, description="of the split", examples=[0])

    @model_validator(mode="after")
    def _leave_a_test_share(self) -> "Fractions":
        if self.train + self.val >= 1:
            raise ValueError("train and val leave nothing to test on: their sum must be below 1")
        return self


class Dataset(Settings):
    """One file of config/datasets/."""

    title: str = Field(description="the name in tables and figures", examples=["Caltech101"])
    layout: Literal["coop", "fgvc", "imagenet", "folders"] = Field(
        default="coop",
        description="coop (a split file in CoOp's JSON form), folders (a folder of your own), "
        "fgvc or imagenet",
        examples=["coop"],
    )
    archives: list[ArchiveFile] = Field(
        default=[],
        description="the files to download",
        examples=[[{"file": "images.tar.gz", "urls": ["https://..."], "bytes": 791918971}]],
    )
    images: str = Field(
        default="",
        description="the folder, as the archives hold it, that the split's image paths start from",
        examples=["101_ObjectCategories"],
    )
    drawn: Literal["digits", "letters"] | None = Field(
        default=None,
        description="the embedded dataset that the workflow draws itself",
        examples=["digits"],
    )
    split: str | None = Field(
        default=None,
        description="layout coop: the split file's name",
        examples=["split_zhou_Caltech101.json"],
    )
    folder: str | None = Field(
        default=None,
        description="layout folders: a folder of class folders, or of train, val and test folders "
        "that hold them",
        examples=["/data/my-photographs"],
    )
    fractions: Fractions = Field(
        default=Fractions(),
        description="layout folders, without train, val and test folders: the shares",
        examples=[{"train": 0.5, "val": 0.2, "seed": 0}],
    )
    class_names: dict[str, str] = Field(
        default={},
        description="layout folders: what a class folder is called in a prompt",
        examples=[{"n02123045": "tabby cat"}],
    )
    leave_out: list[str] = Field(
        default=[],
        description="images, as the manifest names them, that are left out: they cannot be read",
        examples=[["images/beagle_116.jpg"]],
    )
    templates: list[str] = Field(
        default=["a photo of a {}."],
        min_length=1,
        description="prompts in which {} stands for the class name",
        examples=[["a photo of a {}."]],
    )
    counts: Counts | None = Field(
        default=None,
        description="what the split must hold; may be left out for layout folders",
        examples=[{"train": 4128, "val": 1649, "test": 2465, "classes": 100}],
    )
    licence: str = Field(default="", description="the images' licence", examples=["CC BY 4.0"])
    source: str = Field(
        default="", description="where the images come from", examples=["https://..."]
    )
    citation: str = Field(default="", description="how to cite it", examples=["Li et al., 2022"])

    @model_validator(mode="after")
    def _have_what_the_layout_needs(self) -> "Dataset":
        needs = {"coop": ("split", "counts"), "folders": ("folder",)}.get(self.layout, ("counts",))
        for key in needs:
            if getattr(self, key) is None:
                raise ValueError(f"layout {self.layout} needs the key '{key}'")
        return self


def read_experiment(config: Mapping[str, Any], *, source: str) -> Experiment:
    """Check a configuration.

    Args:
        config: the merged configuration files.
        source: their names, for the error.

    Raises:
        ConfigError: with the key, what was found, what is expected and the corrected lines.
    """
    return check(Experiment, config, source=source)


def read_dataset(name: str, folder: str | Path = "config/datasets") -> Dataset:
    """Read and check one dataset file.

    Raises:
        ConfigError: there is no such file, or it holds a wrong key or value.
    """
    folder = Path(folder)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise unknown("dataset", name, known, source=f"{folder}/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    dataset = check(Dataset, content, source=str(path))
    for template in dataset.templates:
        if "{}" not in template:
            raise ConfigError(
                f"{path}: templates: no place for the class name.\n  found:    {template!r}\n"
                "  expected: {} where the class name stands\n  write:\n"
                "    templates: ['a photo of a {}.']"
            )
    return dataset
