"""The experiment and the dataset files as typed, validated objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from vtclip.settings import ConfigError, Settings, check, unknown


def _distinct(values: list[Any]) -> list[Any]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{repeated[0]!r} is named twice")
    return values


Distinct = AfterValidator(_distinct)


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
    spatial: Literal["projected", "raw"] = Field(
        default="projected",
        description="spatial features in the joint space (projected), or before pooling (raw)",
        examples=["projected"],
    )

    @property
    def folder(self) -> str:
        """The name as one part of a path."""
        return self.name.replace("/", "-")


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
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto, cpu or cuda", examples=["auto"]
    )


class Counts(Settings):
    """How many images a split holds, and how many classes there are."""

    train: int = Field(ge=1, description="training images", examples=[4128])
    val: int = Field(ge=0, description="validation images", examples=[1649])
    test: int = Field(ge=1, description="test images", examples=[2465])
    classes: int = Field(ge=2, description="classes", examples=[100])


class Dataset(Settings):
    """One file of config/datasets/."""

    title: str = Field(description="the name in tables and figures", examples=["Caltech101"])
    drawn: Literal["digits", "letters"] | None = Field(
        default=None,
        description="the embedded dataset that the workflow draws itself",
        examples=["digits"],
    )
    split: str = Field(
        description="the split file, in CoOp's JSON form, inside the dataset's images",
        examples=["split.json"],
    )
    templates: list[str] = Field(
        min_length=1,
        description="prompts in which {} stands for the class name",
        examples=[["a photo of a {}."]],
    )
    counts: Counts = Field(
        description="what the split must hold",
        examples=[{"train": 4128, "val": 1649, "test": 2465, "classes": 100}],
    )
    licence: str = Field(description="the images' licence", examples=["CC BY 4.0"])
    source: str = Field(description="where the images come from", examples=["https://..."])
    citation: str = Field(default="", description="how to cite it", examples=["Li et al., 2022"])


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
