"""Every path of the workflow, once.

Patterns hold Snakemake's wildcards in braces; `.format` fills them. They are relative to the
working directory, but for the project's own files, which `find_own` finds from anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]

ARCHIVE = "resources/archives/{dataset}/{file}"
ARCHIVE_RECEIPT = "resources/archives/{dataset}/{file}.json"
IMAGES = "resources/images/{dataset}"
IMAGES_RECEIPT = "resources/images/{dataset}.json"
WEIGHTS = "resources/backbones/{weights}.safetensors"

ALL = 2**31 - 1  # shots: all of a class's images, for none has more; the largest of a column
RUN = "{shots}shot-seed{seed}"
MANIFEST = "results/manifests/{dataset}.parquet"
SHOTS = f"results/shots/{{dataset}}/{RUN}.parquet"
TEXTS = "results/features/{backbone}/{dataset}/texts.parquet"
TEST_FEATURES = "results/features/{backbone}/{dataset}/{part}.parquet"
SHOT_FEATURES = f"results/features/{{backbone}}/{{dataset}}/{{views}}/{RUN}.parquet"

# Folders of results/ that all experiments share: no experiment may be called so.
SHARED = ("manifests", "shots", "features", "benchmarks")  # `benchmarks` of earlier versions

DATASETS = "config/datasets"
HEAD = "head.safetensors"
TRAINED_GLYPHS = "config/backbones/glyph-clip.safetensors"
PUBLISHED = "config/published.csv"
PUBLISHED_TESTS = "config/published-tests.csv"
TEMPLATE = "vtclip/results/templates/report.html"


@dataclass(frozen=True)
class ExperimentPaths:
    """The paths of one experiment.

    Attributes:
        name: the experiment's name, a folder of results/.
    """

    name: str

    @property
    def folder(self) -> str:
        """Everything that belongs to this experiment alone."""
        return f"results/{self.name}"

    @property
    def config(self) -> str:
        """The exact configuration, merged."""
        return f"{self.folder}/config.yaml"

    @property
    def report(self) -> str:
        """The page that shows everything."""
        return f"{self.folder}/report.html"

    @property
    def run(self) -> str:
        """The folder of one head."""
        return f"{self.folder}/heads/{{backbone}}/{{dataset}}/{{method}}/{RUN}"

    @property
    def head(self) -> str:
        """A trained head; history.parquet and run.json lie beside it."""
        return f"{self.run}/{HEAD}"

    @property
    def training_log(self) -> str:
        """The log of a head's training."""
        return f"logs/train_head/{self.name}/{{backbone}}/{{dataset}}/{{method}}/{RUN}.log"

    @property
    def predictions(self) -> str:
        """What all heads of a method, trained on one dataset, say of a test set."""
        return f"{self.folder}/predictions/{{backbone}}/{{dataset}}/{{method}}/{{tested}}.parquet"

    def table(self, name: str, *suffixes: str) -> list[str]:
        """A table in several forms: `table("results", "csv", "md")`."""
        return [f"{self.folder}/tables/{name}.{suffix}" for suffix in suffixes]

    def figure(self, name: str) -> list[str]:
        """A figure as SVG and PNG."""
        return [f"{self.folder}/figures/{name}.{suffix}" for suffix in ("svg", "png")]


def receipt_of(path: str | Path) -> str:
    """The small file beside a large one that holds its checksum.

    Snakemake compares files up to 1 MB by content and larger ones by time, so it is the receipt
    that tells whether a large file has changed.
    """
    path = Path(path)
    return record_of(path) if path.name == HEAD else str(path.with_suffix(".json"))


def receipts_of(files: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The receipts of some files, or groups of files, by name."""
    groups = ([found] if isinstance(found, str) else found for found in files.values())
    return [receipt_of(file) for group in groups for file in group]


def history_of(head: str) -> str:
    """The history of a head's training."""
    return str(Path(head).with_name("history.parquet"))


def record_of(head: str | Path) -> str:
    """The record of a head's training: what made it, how long it took, its checksum."""
    return str(Path(head).with_name("run.json"))


def format_shots(shots: int) -> int | str:
    """A number of shots as configurations, paths and tables write it: 16, or `all`."""
    return "all" if shots == ALL else shots


def parse_shots(written: int | str) -> int:
    """The number of shots that is written so."""
    return ALL if written == "all" else int(written)


def log_of(head: str | Path) -> str:
    """The log of a head's training."""
    experiment, _, *place, run, _ = Path(head).parts[1:]
    return str(Path("logs", "train_head", experiment, *place, f"{run}.log"))


def find_own(path: str) -> str:
    """A file that may be the project's own: from the working directory, else from the project.

    A path that is in neither place comes back as it is.
    """
    if Path(path).exists() or not (PROJECT / path).exists():
        return path
    return str(PROJECT / path)


def why_outside(path: str) -> str | None:
    """Why a path does not stay inside the folder that it is meant for; None where it does.

    Backslashes separate as slashes do, and a letter with a colon is a drive: files may be unpacked
    on one system and read on another.
    """
    if path.startswith(("/", "\\")) or path[1:2] == ":":
        return "is an absolute path"
    if ".." in path.replace("\\", "/").split("/"):
        return "leads out of the folder"
    if "\0" in path:
        return "holds a zero byte"
    return None
