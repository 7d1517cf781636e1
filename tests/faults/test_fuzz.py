"""Any content of a configuration or a dataset's file is planned, or refused by one error.

`make test` tries some examples of each kind, `make test-faults` two thousand.
"""

import copy
import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plan_jobs import find_jobs
from vtclip.config.backbone_config import BackboneConfig
from vtclip.config.dataset import ArchiveFile, Counts, Dataset, Fractions
from vtclip.config.experiment import Ablation, Experiment, Views
from vtclip.methods import METHODS
from vtclip.plan import Plan, jobs, shown
from vtclip.settings import ConfigError, read_yaml
from vtclip.wording import to_yaml

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = [50, pytest.param(2000, marks=pytest.mark.faults)]


def read(path: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIG / path).read_text())


# The embedded experiment with every method, a second backbone, and an ablation.
DEMO = read("demo.yaml") | read("ablation.yaml")
DEMO["methods"] |= read("all-methods.yaml")["methods"]
DEMO |= {"backbones": [DEMO["backbone"] | {"spatial": "projected", "precision": "float16"}]}
DEMO |= {
    "name": "mine",
    "device": "cpu",
    "slots_per_gpu": 1,
    "mirror": "https://mirror.example/archives",
}
DATASETS = [read(f"datasets/{name}.yaml") for name in ("digits", "dtd", "oxford_pets", "imagenet")]
DATASETS += [
    {
        "title": "Mine", "layout": "folders", "folder": "photos",
        "fractions": {"train": 0.5, "val": 0.2, "seed": 0}, "class_names": {"a": "an a"},
    }
]  # fmt: skip

MODELS = [ArchiveFile, Counts, Dataset, Fractions, Ablation, BackboneConfig, Experiment, Views]
MODELS += [method.settings_type for method in METHODS.values()]
NAMES = sorted({name for model in MODELS for name in model.model_fields} | set(METHODS))
CHANGES = ["value", "like", "like", "like", "delete", "add", "rename", "wrap"]
LOOP: list[Any] = []
LOOP.append(LOOP)  # YAML can say so: &a [*a]
ODD = [
    2**31, 2**63, 10**400, -1, 0, 1e308, 1e-308, float("inf"), float("nan"), "", " ", ".", "a/b",
    "{x}", "{dataset}", "n" * 300, "a/" * 3000, "é" * 120, "a\0b", "\ud800", "\udcff", "a\nb", "$",
    "%s", "1", "true", "null", "glyphs", "openai", "my.pt", "my.json", "vt_clip@heads=1", "mean",
    datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 1, 2), b"bytes", {1, 2}, LOOP,
]  # fmt: skip
# Such paths would walk whole folders of the machine.
texts = st.text(max_size=8).filter(lambda text: not text.startswith(("/", "..", "~")))
keys = st.sampled_from(NAMES) | texts | st.integers(-2, 20) | st.booleans() | st.none()
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(0, 40) | st.floats() | texts
    | st.sampled_from(NAMES) | st.sampled_from(ODD)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)


def ways_into(content: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value inside."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    ways = []
    for key, value in items:
        ways.append((*way, key))
        if isinstance(value, dict | list) and value is not content:
            ways += ways_into(value, (*way, key))
    return ways


@st.composite
def spoilt(draw: Callable, contents: list[dict[str, Any]]) -> dict[str, Any]:
    """One of the contents with one or two changes, each somewhere inside."""
    content = copy.deepcopy(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 2))):
        *way, key = draw(st.sampled_from(ways_into(content)))
        inner = content
        for part in way:
            inner = inner[part]
        change = draw(st.sampled_from(CHANGES))
        if change == "value":
            inner[key] = draw(values)
        elif change == "like":
            inner[key] = draw(like(inner[key]))
        elif change == "wrap":
            inner[key] = draw(st.sampled_from([[inner[key]], {draw(keys): inner[key]}]))
        elif isinstance(inner, list):
            inner.append(draw(values))
        elif change == "add":
            inner[draw(keys)] = draw(values)
        elif len(content) > 1 or inner is not content:
            value = inner.pop(key)
            if change == "rename":
                inner[draw(keys)] = value
        if LOOP in content.values() or not content:
            break
    return content


def like(value: Any) -> st.SearchStrategy:
    """Values of the same kind, so that more examples are planned."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.integers(0, 40) | st.integers()
    if isinstance(value, float):
        return st.floats(0, 2) | st.floats()
    return values


@st.composite
def noisy(draw: Callable, files: list[bytes]) -> bytes:
    """One of the files, in which some bytes are changed, lost, or put in."""
    text = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
        put = draw(st.binary(max_size=3) | st.sampled_from([b"\n", b": ", b"&a ", b"*a", b"\t"]))
        text = text[:place] + put + text[place + length :]
    return text


def assert_complete(plan: Plan) -> None:
    """Check that the plan answers everything that the rules read."""
    assert plan.targets()
    for path in (*plan.targets(), *plan.outputs()):
        assert max(len(part.encode()) for part in path.split("/")) < 240
        assert not set("{}") & set(path)
    assert plan.wildcards
    assert shown.list_titles(plan)
    assert shown.list_notes(plan)
    for name in plan.datasets:
        for file in plan.datasets[name].archives:
            assert jobs.fetch_archive(plan, dataset=name, file=file.file).params["expected"]
    for job, _ in find_jobs(plan).values():
        json.dumps({**job.params, **job.inputs})  # plain values
        assert min(job.threads, job.mem_mb, job.runtime) > 0
        assert job.group in (None, "training", "training_on_cores")


def assert_planned_or_refused(plan: Callable[[], Plan], *files: str) -> None:
    """Check that a configuration is planned, or refused by a ConfigError that names the file."""
    try:
        planned = plan()
    except ConfigError as error:
        message = str(error)
        assert any(file in message for file in files), message
        assert len(message) < 20_000
        message.encode()  # it can be printed and logged
    else:
        assert_complete(planned)


def try_examples(number: int, strategy: st.SearchStrategy, one: Callable[[Any], None]) -> None:
    """Try examples that are the same each time."""
    given(strategy)(
        settings(
            max_examples=number, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )(one)
    )()  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with a user's weights, architecture and photographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.pt").write_text("weights")
    shutil.copy(CONFIG / "backbones" / "glyph-clip.json", tmp_path / "my.json")
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            (tmp_path / "photos" / name / f"{number}.png").write_text(f"{name}{number}")
    (tmp_path / "config" / "datasets").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_configuration_is_planned_or_refused(here, examples):
    def one(config):
        assert_planned_or_refused(lambda: Plan.read(config, source="mine.yaml"), "mine.yaml")
        to_yaml(config)

    try_examples(examples, spoilt([DEMO]), one)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_datasets_file_is_planned_or_refused(here, examples):
    file = Path("config/datasets/mine.yaml")
    config = DEMO | {"datasets": ["mine"]}

    def one(content):
        file.write_text(to_yaml(content), encoding="utf-8", errors="backslashreplace")
        plan = lambda: Plan.read(config, source="a.yaml")  # noqa: E731
        assert_planned_or_refused(
            plan, "mine.yaml", "mine is left out", "mine has no image", "resources/"
        )

    try_examples(examples, spoilt(DATASETS), one)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_files_with_changed_bytes_are_planned_or_refused(here, examples):
    file = Path("config/datasets/mine.yaml")

    def one(noise):
        config, dataset = noise
        Path("a.yaml").write_bytes(config)
        file.write_bytes(dataset)
        assert_planned_or_refused(read_and_plan, "a.yaml", "mine.yaml", "mine is left out")

    def read_and_plan():
        config = read_yaml("a.yaml")
        if not isinstance(config, dict):
            raise ConfigError("a.yaml: Snakemake refuses what has no keys")
        return Plan.read(config | {"datasets": ["mine"]}, source="a.yaml")

    demo, *datasets = (to_yaml(content).encode() for content in [DEMO, *DATASETS])
    noise = st.tuples(noisy([demo]) | st.just(demo), noisy(datasets))
    try_examples(examples, noise, one)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_architecture_is_planned_or_refused(here, examples):
    backbone = {"name": "mine", "pretrained": "my.pt", "architecture": "my.json"}
    config = DEMO | {"backbone": backbone, "backbones": [], "datasets": ["digits"]}

    def one(content):
        text = content if isinstance(content, bytes) else as_json(content).encode()
        Path("my.json").write_bytes(text)
        assert_planned_or_refused(lambda: Plan.read(config, source="a.yaml"), "my.json", "a.yaml")

    architecture = (CONFIG / "backbones" / "glyph-clip.json").read_bytes()
    try_examples(examples, spoilt([json.loads(architecture)]) | noisy([architecture]), one)


def as_json(content: Any) -> str:
    """JSON, with values of other kinds as text."""
    try:
        return json.dumps(content, default=str, skipkeys=True)
    except ValueError:  # a list that contains itself
        return "[" * 100_000
