"""Every path of the workflow, once.

Patterns contain Snakemake's wildcards in braces; `.format` fills them. They are relative to the
working directory, except the project's own files, which `find_own` finds from anywhere.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent
# The folder of Snakefile, workflow/ and config/: in a wheel inside the package, else beside it.
INSTALLED = PACKAGE / "project"
PROJECT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent

ARCHIVE = "resources/archives/{dataset}/{file}"
ARCHIVE_RECEIPT = "resources/archives/{dataset}/{file}.json"
IMAGES = "resources/images/{dataset}"
IMAGES_RECEIPT = "resources/images/{dataset}.json"
WEIGHTS = "resources/backbones/{weights}.safetensors"

ALL = 2**31 - 1  # shots: all of a class's images, for none has more; the largest of a column
RUN = "{shots}shot-seed{seed}"
MANIFEST = "results/manifests/{dataset}.parquet"
SHOTS = f"results/shots/{{dataset}}/{RUN}.parquet"
SHAPE = "resources/backbones/shapes/{sha256}.json"  # of a model that open_clip does not name
TEXTS = "results/features/{backbone}/{dataset}/{texts}.parquet"
VAL_FEATURES = "results/features/{backbone}/{dataset}/val.parquet"  # the whole validation split
TEST_FEATURES = "results/features/{backbone}/{dataset}/{part}.parquet"
SHOT_FEATURES = f"results/features/{{backbone}}/{{dataset}}/{{views}}/{RUN}.parquet"
# The images of one fold in all views, of a dataset that is divided into folds.
FOLD_FEATURES = "results/features/{backbone}/{dataset}/{views}/fold-{fold}of{folds}.parquet"

# Folders of results/ that all experiments share: no experiment may be called so.
SHARED = ("manifests", "shots", "features", "benchmarks")  # `benchmarks` of earlier versions

CONFIG = "config/config.yaml"  # the paper's experiment
METHODS = "methods"  # a user's, in the working directory
DATASETS = "config/datasets"
DESCRIPTIONS = "config/descriptions"
HEAD = "head.safetensors"
TRAINED_GLYPHS = "config/backbones/glyph-clip.safetensors"
PUBLISHED = "config/published.csv"
PUBLISHED_TESTS = "config/published-tests.csv"
TEMPLATE = "workflow/report/report.html"


class ExperimentPaths:
    """Paths of one experiment, whose name is a folder of results/."""

    def __init__(self, name: str, draw: str = "") -> None:
        self.name = name
        place = "{backbone}/{dataset}/{method}"
        self.folder = f"results/{name}"  # all that belongs to this experiment alone
        self.samples = with_draw(SHOTS, draw)  # the images of a run, and their features
        self.shot_features = with_draw(SHOT_FEATURES, draw)
        self.config = f"{self.folder}/config.yaml"  # the exact configuration, merged
        self.report = f"{self.folder}/report.html"
        self.best = f"{self.folder}/best.json"  # which head of each dataset to take
        self.head = f"{self.folder}/heads/{place}/{RUN}{draw}/{HEAD}"
        # The predictions of all heads of a method that were trained on one dataset.
        self.predictions = f"{self.folder}/predictions/{place}/{{tested}}.parquet"
        self.oracle = f"{self.folder}/oracle/{place}/{RUN}{draw}/oracle.safetensors"
        self.oracle_predictions = str(Path(self.oracle).with_name("predictions.parquet"))
        # Of one dataset, the test images that show the picture of an image drawn for a run.
        self.copies = f"{self.folder}/tables/copies/{{dataset}}.parquet"
        # Below picks/, of `vtclip picks`: a name by which `picks:` finds it, however it was drawn.
        self.picks = f"{{dataset}}/{RUN}.jsonl"

    def table(self, name: str, *suffixes: str) -> list[str]:
        """A table in several forms: `table("results", "csv", "md")`."""
        return [f"{self.folder}/tables/{name}.{suffix}" for suffix in suffixes]

    def figure(self, name: str) -> list[str]:
        """A figure as SVG and PNG."""
        return [f"{self.folder}/figures/{name}.{suffix}" for suffix in ("svg", "png")]


def with_draw(pattern: str, draw: str) -> str:
    """A pattern for runs whose images are drawn in another way, as the end of a run's name says."""
    return pattern.replace(RUN, f"{RUN}{draw}")


def receipt_of(path: str | Path) -> str:
    """Path of the small file beside a large one that contains its checksum.

    Snakemake compares files up to 1 MB by content and larger ones by time, so the receipt shows if
    a large file has changed.
    """
    path = Path(path)
    return record_of(path) if path.name == HEAD else str(path.with_suffix(".json"))


def receipts_of(*groups: str | Sequence[str]) -> list[str]:
    """The receipts of some files, or groups of files."""
    files = ([found] if isinstance(found, str) else found for found in groups)
    return [receipt_of(file) for group in files for file in group]


def history_of(head: str) -> str:
    """Path of the history of a head's training."""
    return str(Path(head).with_name("history.parquet"))


def record_of(head: str | Path) -> str:
    """Path of the record of a head's training: what made it, how long it took, its checksum."""
    return str(Path(head).with_name("run.json"))


def format_shots(shots: int) -> int | str:
    """Write a number of shots as in configurations, paths and tables: 16, or `all`."""
    return "all" if shots == ALL else shots


def fill(pattern: str, *, shots: int, **wildcards: Any) -> str:
    """Fill the pattern of a run's file."""
    return pattern.format(shots=format_shots(shots), **wildcards)


def name_shots(shots: int) -> str:
    """Write a number of shots in words: `1 shot`, `16 shots`, `all shots`."""
    return f"{format_shots(shots)} shot{'' if shots == 1 else 's'}"


def name_images(shots: int) -> str:
    """Write in words what a head is trained on: `no image`, `at most 16 shots per class`.

    A class may have fewer, and `all training images` are not those of another split.
    """
    if shots == ALL:
        return "all training images"
    return f"at most {name_shots(shots)} per class" if shots else "no image"


def parse_shots(written: int | str) -> int:
    """Read a number of shots that `format_shots` wrote."""
    return ALL if written == "all" else int(written)


def place_of(head: str | Path) -> tuple[str, ...]:
    """Backbone, dataset and method that a head is trained for: a row may be about others."""
    return Path(head).parts[3:6]


def log_of(head: str | Path) -> str:
    """Path of the log of a head's training."""
    experiment, _, *place, run, _ = Path(head).parts[1:]
    return str(Path("logs", "train_head", experiment, *place, f"{run}.log"))


def find_own(path: str) -> str:
    """Find a file in the working directory, else in the project.

    A path that is in neither place is returned as it is.
    """
    if Path(path).exists() or not (PROJECT / path).exists():
        return path
    return str(PROJECT / path)


def find_config(name: str) -> str:
    """Find a configuration by its path, or by its name in config/ here, else in the project.

    What is in none of these places is returned as it is.
    """
    known = [name, f"config/{name}.yaml", *([CONFIG] if name == "paper" else [])]
    return next((file for file in map(find_own, known) if Path(file).is_file()), name)


def why_outside(path: str) -> str | None:
    """Reason that a relative path is refused: it leads out of its folder. None for a good one.

    Backslashes separate as slashes do, and a letter with a colon is a drive: files may be unpacked
    on one system and read on another.
    """
    if path.startswith(("/", "\\")) or path[1:2] == ":":
        return "is an absolute path"
    if ".." in path.replace("\\", "/").split("/"):
        return "leads out of the folder"
    if "\0" in path:
        return "contains a zero byte"
    return None


class Run(NamedTuple):
    """A head tested on a test set."""

    backbone: str  # its features folder, as tables name it
    dataset: str  # that the head is trained on, or a half of its classes
    tested: str  # the test set, or a half of its classes
    method: str
    label: str  # of a variant in the ablation; empty for all other rows
    shots: int
    seed: int
    head: str
    predictions: str  # shared by all heads of the method on the dataset
    record: str  # run.json of the head
    texts: str  # text features of the test set
    reason: str = ""  # why the head cannot be tested there; the paths are then empty


class Sample(NamedTuple):
    """The images that the heads of a dataset and a number of shots are trained on, of one seed."""

    dataset: str  # or a half of its classes
    shots: int
    path: str


class Example(NamedTuple):
    """A dataset and a backbone whose images the report shows."""

    backbone: str
    dataset: str
    images: str  # the folder that image paths start from
    receipt: str | None  # the file that says that all images are there; None for a user's folder
    texts: str
    attention: str | None  # the figure of attention, where there is one
    others: str | None = None  # features of another dataset's shots; None where there is none
    learned: tuple[str, ...] = ()  # features of images to learn from, whose labels it checks
    copies: str | None = None  # the table of test images that are near-duplicates of images drawn


def distinct(rows: Iterable[Run | Example], column: str) -> list[Any]:
    """The values of a column, in their order, each once; none of them empty."""
    return [value for value in dict.fromkeys(getattr(row, column) for row in rows) if value]
