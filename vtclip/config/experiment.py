"""The configuration of an experiment as typed, validated objects."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from vtclip.config.backbone_config import BackboneConfig
from vtclip.files import measure, read_record, write_record, write_text
from vtclip.paths import ALL, SHARED, ExperimentPaths, format_shots, receipt_of
from vtclip.settings import LARGEST, PathText, Settings, check, refusal
from vtclip.wording import shorten, to_yaml

CLIPS = [{"name": f"{name}-quickgelu", "pretrained": "openai"} for name in ("RN50", "ViT-B-32")]


def _check_distinct(values: list[Any]) -> list[Any]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{format_shots(repeated[0])!r} is named twice")
    return values


def _read_shots(given: Any) -> Any:
    if given == ALL:
        raise ValueError("no class has as many images: write `all` for all of them")
    return ALL if given == "all" else given


Distinct = AfterValidator(_check_distinct)
Shots = Annotated[int, BeforeValidator(_read_shots), Field(ge=1, le=LARGEST)]
ShotsList = Annotated[
    list[Shots], BeforeValidator(lambda given: [given] if given == "all" else given), Distinct
]


class Views(Settings):
    """The cached views of each training image."""

    number: int = Field(4, ge=0, le=10_000)
    """random views beside the test view, 0 to 10000"""
    scale: tuple[float, float] = Field((0.5, 1.0), examples=[[0.5, 1.0]])
    """smallest and largest share of the image's area in a crop, within 0 .. 1"""
    flip: bool = True
    """whether half of the views are mirrored"""
    made_on: Literal["cpu", "device"] = "cpu"
    """cpu, or device: the random views are cut and resized by Pillow, or by PyTorch where the
    backbone computes"""

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("expected 0 < smallest <= largest <= 1")
        return scale

    @property
    def folder(self) -> str:
        """The views in words, one part of a path: `4crops-0.5-1.0-flip`."""
        further = ("-flip" if self.flip else "") + ("-device" if self.made_on == "device" else "")
        return f"{self.number}crops-{self.scale[0]}-{self.scale[1]}{further}"


class Descriptions(Settings):
    """Texts that are made of sentences about each class."""

    illustrated = frozenset({"descriptions"})

    descriptions: PathText = Field(examples=["cafo"])
    """a set of config/descriptions/ (cafo, cupl, ape), or a JSON file, from each class's name to a
    list of sentences; {dataset} in its path stands for the dataset's name"""
    templates: bool | None = None
    """whether the dataset's templates are averaged with the sentences; left out, as the set's
    authors do, and not with a file of your own"""

    @property
    def is_file(self) -> bool:
        """Check that it is a user's file, and not the name of a set."""
        return "/" in self.descriptions or self.descriptions.endswith(".json")

    @property
    def file_name(self) -> str:
        """The texts in words, a file's name: `texts-cupl`, `texts-cupl-with-templates`."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.descriptions.removesuffix(".json"))
        ending = {None: "", True: "-with-templates", False: "-alone"}[self.templates]
        return f"texts-{'file-' if self.is_file else ''}{name.strip('-.')}{ending}"


class Ablation(Settings):
    """Settings to vary, and the runs of the experiment to vary them at."""

    method: str = "vt_clip"
    """the method, one of the experiment's `methods`"""
    shots: ShotsList | None = Field(None, min_length=1, examples=[[1, 16]])
    """some of the experiment's `shots`; left out, all"""
    seeds: Annotated[list[int], Distinct] | None = Field(None, min_length=1, examples=[[1, 2, 3]])
    """some of the experiment's `seeds`; left out, all"""
    one_at_a_time: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, examples=[{"heads": [1, 4], "spatial": ["raw"]}]
    )
    """setting -> values; each is tried with all else as the experiment has it"""
    crossed: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, examples=[{"learning_rate": [0.001, 0.003], "weight_decay": [0.0, 1.0]}]
    )
    """setting -> values; every combination is tried"""


class UnevenShots(Settings):
    """Another number of training images for each class."""

    min: int = Field(1, ge=1, le=LARGEST)
    """the smallest number, 1 or more"""
    max: int = Field(ge=1, lt=LARGEST, examples=[16])
    """the largest number"""
    seed: int = Field(1, ge=0, le=LARGEST)
    """seed of the classes' numbers, 0 or more"""
    classes: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, examples=[{"seven": 3, "eight": 16}]
    )
    """class name -> its number; those of the other classes are drawn"""

    @field_validator("max")
    @classmethod
    def _check_max(cls, largest: int, found: ValidationInfo) -> int:
        if largest < found.data.get("min", 1):
            raise ValueError(f"expected min <= max, found min: {found.data['min']}")
        return largest

    @field_validator("classes")
    @classmethod
    def _check_numbers(cls, classes: dict[str, int], found: ValidationInfo) -> dict[str, int]:
        low, high = found.data.get("min", 1), found.data.get("max", LARGEST)
        if any(not low <= number <= high for number in classes.values()):
            raise ValueError("expected min <= each number <= max")
        return classes

    @property
    def name(self) -> str:
        """The numbers in words, the end of a run's name in paths."""
        given = hashlib.sha256(json.dumps(self.classes, sort_keys=True).encode()).hexdigest()[:8]
        ending = f"-{given}" if self.classes else ""
        return f"-uneven-from{self.min}-seed{self.seed}{ending}"


class Experiment(Settings):
    """One few-shot table to compute."""

    illustrated = frozenset({"texts"})
    internal = frozenset({"uneven"})

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", examples=["my-experiment"])
    """the folder of results/ that heads, predictions, tables and figures go to; left out, the name
    of the first configuration file"""
    backbone: BackboneConfig | None = Field(None, examples=CLIPS[:1])
    """the frozen CLIP"""
    backbones: list[BackboneConfig] = Field([], examples=[CLIPS])
    """several frozen CLIPs, each with rows of its own in the tables"""
    datasets: Annotated[list[str], Distinct] = Field(min_length=1, examples=[["digits", "letters"]])
    """names of files in config/datasets/, each once"""
    shots: ShotsList = Field(min_length=1, examples=[[1, 2, 4, 8, 16]])
    """numbers of labelled images per class, 1 or more, or `all` of each class, each once"""
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST)]], Distinct] = Field(
        min_length=1, examples=[[1, 2, 3]]
    )
    """whole numbers, 0 to 2147483647, each once"""
    uneven: UnevenShots | None = None
    """numbers that differ from class to class, written as shots: {min, max, seed}"""
    picks: PathText | None = Field(
        None, examples=["indices/{dataset}/shot_{shots}-seed_{seed}.json"]
    )
    """lists of the images to train and to validate with, in place of a draw: a folder, or a file;
    {dataset}, {shots} and {seed} in its path stand for those of a run"""
    views: Views = Field(Views(), examples=[{"number": 4, "scale": [0.5, 1.0], "flip": True}])
    """the cached views of each training image"""
    texts: Literal["templates"] | Descriptions = Field(
        "templates", examples=[{"descriptions": "cafo"}]
    )
    """what the classes' texts are made of: templates, those of the dataset's file, or descriptions,
    sentences about each class"""
    methods: dict[str, dict[str, Any] | None] = Field(
        min_length=1, examples=[{"zero_shot": None, "vt_clip": {"learning_rate": 0.001}}]
    )
    """method names, each with its settings or with nothing"""
    choose: Literal["validation", "all", "none"] = "validation"
    """what methods choose settings on: the validation shots; all, the whole validation split; or
    none: each then takes constants, and one that has none is left out"""
    optimism: bool = False
    """whether to make the optimism table: what choosing on more images is worth, and on the test
    images, by heads that are no results"""
    tests: Literal["crossed"] | dict[str, Annotated[list[str], Distinct]] = Field(
        {}, examples=[{"imagenet": ["imagenet_v2", "imagenet_sketch"]}]
    )
    """dataset -> other test sets that its heads are tested on; or crossed, for every dataset's
    heads on every other dataset"""
    classes: Literal["all", "base"] = Field("all", examples=["base"])
    """the classes that heads are trained on: all, or base, the first half of each dataset's; they
    are then tested on that half and on the new one"""
    ablation: Ablation | None = Field(None, examples=[{"one_at_a_time": {"heads": [1, 4]}}])
    """variants of one method, for a table of their own"""
    mirror: PathText | None = Field(None, examples=["/data/archives"])
    """a folder or an http(s) address that contains <dataset>/<file>, used in place of all the
    addresses of the dataset files"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto, cpu, cuda, or mps (Apple's GPU, which auto does not take)"""
    slots_per_gpu: int = Field(1, ge=1)
    """jobs that may share a GPU, 1 or more; `--resources gpu=` then counts slots"""

    @field_validator("name")
    @classmethod
    def _check_not_shared(cls, name: str) -> str:
        if name in SHARED:
            raise ValueError(f"results/{name}/ is shared by all experiments")
        return name

    @field_validator("backbones")
    @classmethod
    def _check_backbones(
        cls, several: list[BackboneConfig], found: ValidationInfo
    ) -> list[BackboneConfig]:
        """Require a backbone, and refuse two with one folder of features or file of weights."""
        if "backbone" not in found.data:
            return several  # `backbone` itself is wrong
        named = list(dict.fromkeys(filter(None, [found.data["backbone"], *several])))
        if not named:
            raise ValueError("there is no backbone: write `backbone:`, or this key for several")
        for one, other in combinations(named, 2):
            origin = {(each.name, each.pretrained, each.architecture) for each in (one, other)}
            if one.folder == other.folder or (one.weights == other.weights and len(origin) > 1):
                raise ValueError(
                    f"two backbones would have the name {one.weights}: give one of them another "
                    "name, or its file of weights"
                )
        return several

    @property
    def draw(self) -> str:
        """The end of a run's name, in paths: empty for images that are drawn as CoOp draws them."""
        if self.picks is None:
            return "" if self.uneven is None else self.uneven.name
        words = re.sub(r"[^A-Za-z0-9]+", "-", Path(self.picks).stem).strip("-")[:40]
        return f"-picks-{words}-{hashlib.sha256(self.picks.encode()).hexdigest()[:8]}"

    @property
    def texts_name(self) -> str:
        """The name of the files of the classes' texts."""
        return "texts" if isinstance(self.texts, str) else self.texts.file_name

    @property
    def all_backbones(self) -> list[BackboneConfig]:
        """Every backbone, in the tables' order: `backbone`, then `backbones`."""
        return list(dict.fromkeys(filter(None, [self.backbone, *self.backbones])))


def read_experiment(config: Mapping[str, Any], *, source: str | Sequence[str]) -> Experiment:
    """Check a configuration, merged from the files that `source` names.

    The first of them gives the experiment's name where the configuration has none.
    """
    files = [source] if isinstance(source, str) else list(source)
    named = {"name": Path(files[0]).stem, **config}
    experiment = check(Experiment, _read_uneven(named, ", ".join(files)), source=", ".join(files))
    if "name" not in config:
        _check_other_file(experiment.name, files[0])
    return experiment


def _read_uneven(config: dict[str, Any], source: str) -> dict[str, Any]:
    """The configuration with `shots: {min, max, seed}` as the largest number and `uneven`."""
    shots = config.get("shots")
    if "uneven" in config:
        raise refusal(
            f"{source}: uneven", "numbers that differ are written under `shots`",
            found=f"uneven: {shorten(config['uneven'])}",
            expected="shots: {min, max, seed}, and no uneven",
        )  # fmt: skip
    if not isinstance(shots, Mapping):
        return config
    if config.get("picks"):
        raise refusal(
            f"{source}: picks", "numbers of shots that differ from class to class are drawn",
            found=f"picks: {config['picks']}", expected="lists of images, or shots: {min, max}",
            write="picks: null",
        )  # fmt: skip
    uneven = check(UnevenShots, shots, source=f"{source}: shots")
    return config | {"shots": [uneven.max], "uneven": dict(shots)}


def save_config(
    config: Mapping[str, Any], destination: str | Path, *, files: Sequence[str] = ()
) -> None:
    """Write a merged configuration as YAML, and the names of its files into its receipt."""
    write_text(destination, to_yaml(dict(config)))
    write_record(receipt_of(destination), measure(destination) | {"files": list(files)})


def _check_other_file(name: str, file: str) -> None:
    """Refuse a file whose name has given another file's experiment its folder of results."""
    try:
        first, *_ = read_record(receipt_of(ExperimentPaths(name).config))["files"]
    except (OSError, KeyError, ValueError):
        return  # there is no record, or an older one
    if Path(first).is_file() and Path(file).is_file() and not Path(first).samefile(file):
        raise refusal(
            f"{file}: name",
            f"results/{name}/ contains the experiment of {first}",
            found="no `name:`, and two files of the same name",
            expected="a name of its own for this experiment",
            write=f"name: {name}-2",
        )
