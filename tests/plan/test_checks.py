"""All that can be known to be wrong is refused before any job, by one error with what to write."""

import copy
import datetime
import json
import os
from pathlib import Path

import pytest

from tests.plan import conftest
from tests.plan.conftest import job, planned
from vtclip.settings import ConfigError

ARCHITECTURE = json.loads(conftest.ARCHITECTURE.read_text())
RN50 = {"name": "RN50-quickgelu", "pretrained": "openai"}


def refused(config, **changes) -> str:
    with pytest.raises(ConfigError) as error:
        planned(config, "mine.yaml", **changes)
    assert error.type is ConfigError
    return str(error.value)


def assert_says(message: str, *parts: str) -> None:
    """The parts stand in the message, in their order."""
    place = 0
    for part in parts:
        assert part in message[place:], f"{part!r} is not in {message[place:]!r}"
        place = message.index(part, place) + len(part)


# Methods and their settings.


@pytest.mark.parametrize(
    ("methods", "parts"),
    [
        (
            {"vt_clip": {"heads": 7}},
            ["vt_clip: heads", "found:    heads: 7", "divisor of 64", "heads: 8"],
        ),
        ({"vt_clip": {"heads": 0}}, ["vt_clip: heads", "found:    heads: 0", "write:", "heads: 8"]),
        (
            {"vt_clip": {"feed_forward": float("inf")}},
            ["feed_forward", "finite", ".inf", "write:", "4.0"],
        ),
        (
            {"vt_clip": {"feed_forward": 1e-9}},
            ["feed_forward", "no hidden unit", "expected: 0 for none"],
        ),
        (
            {"vt_clip": {"train_classes": 5, "blocks": 2}},
            ["vt_clip: train_classes", "one block", "found:    train_classes: 5", "write:", "null"],
        ),
        (
            {"vt_clip": {"head": 4}},
            ["vt_clip: head: there is no such key", "heads", "write:", "heads: 4"],
        ),
        (
            {"coop": None},
            ["coop: context", "reads 16", "found:    context: 16", "12 words", "context: 12"],
        ),
        ({"coop": {"words": "a " * 13}}, ["coop: words", "found:", "12 words", "words: a a"]),
        (
            {"linear_probe": {"inverse_regularisation": [-5]}},
            ["linear_probe: inverse_regularisation", "found:", "-5", "above 0", "write:"],
        ),
        (
            {"vtclip": None},
            ["methods: Unknown method 'vtclip'", "zero_shot", "Did you mean 'vt_clip'?"],
        ),
        ({"vt_clip@heads=1": None}, ["Unknown method 'vt_clip@heads=1'", "known:", "vt_clip"]),
        ({"vt/clip": None}, ["Unknown method 'vt/clip'", "known:", "vt_clip"]),
        ({"../vt_clip": None}, ["Unknown method '../vt_clip'", "known:"]),
        ({"vt_clip": 3}, ["methods.vt_clip", "found:    vt_clip: 3", "expected: method names"]),
        ({"vt_clip": ["heads"]}, ["methods.vt_clip", "found:", "expected: method names"]),
        ({3: None}, ["methods.3", "found:", "expected: method names"]),
        (
            {},
            ["methods", "found:    methods: {}", "expected: method names", "write:", "methods: {"],
        ),
        (None, ["methods", "found:    methods: null", "expected: method names", "write:"]),
        (
            ["vt_clip"],
            ["methods", "found:    methods: [vt_clip]", "expected: method names", "write:"],
        ),
    ],
)
def test_a_method_that_cannot_be_used_is_refused(demo, methods, parts):
    assert_says(refused(demo, methods=methods), "mine.yaml: ", *parts)


def test_a_method_that_compares_raw_features_with_texts(demo):
    message = refused(demo, methods={"calip": None}, backbone=demo["backbone"] | {"spatial": "raw"})
    assert_says(message, "mine.yaml: methods.calip", "found:    spatial: raw", "spatial: projected")


def test_a_method_is_checked_against_every_backbone(demo):
    message = refused(demo, backbone=RN50, backbones=[demo["backbone"]], methods={"coop": None})
    assert_says(message, "context: 16 words", "reads 16")


# Datasets, runs and views.


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("datasets", ["digit"], ["Unknown dataset 'digit'", "known: caltech101", "mean 'digits'?"]),
        ("datasets", ["../digits"], ["mine.yaml: datasets: Unknown dataset '../digits'"]),
        ("datasets", ["digits", ""], ["mine.yaml: datasets: Unknown dataset ''"]),
        ("datasets", [], ["mine.yaml: datasets", "found:    datasets: []", "write:"]),
        ("datasets", ["digits", "digits"], ["datasets", "'digits' is named twice", "write:"]),
        ("datasets", "digits", ["datasets", "found:    datasets: digits", "write:"]),
        ("shots", [0], ["shots.0", "found:    shots: [0]", "1 or more", "shots: [1, 2, 4, 8, 16]"]),
        ("shots", [1, 1], ["shots", "1 is named twice"]),
        ("shots", [2**31 - 1], ["shots.0: no class has as many images: write `all`", "write:"]),
        ("seeds", [-1], ["seeds.0", "found:", "0 to 2147483647", "seeds: [1, 2, 3]"]),
        ("seeds", None, ["seeds", "found:    seeds: null", "write:"]),
        (
            "views",
            {"scale": [3, 7]},
            ["views.scale", "found:    scale: [3, 7]", "0 .. 1", "scale: ["],
        ),
        ("views", {"scale": [0.9, 0.5]}, ["views.scale", "found:    scale: [0.9, 0.5]", "write:"]),
        (
            "views",
            {"scale": [0, 1]},
            ["views.scale", "found:    scale: [0, 1]", "scale: [0.5, 1.0]"],
        ),
        ("views", {"scale": [0.5]}, ["views.scale", "expected:", "scale: [0.5, 1.0]"]),
        ("views", {"scale": [0.5, float("nan")]}, ["views.scale", "finite", "found:", "write:"]),
        (
            "views",
            {"number": -1},
            ["views.number", "found:    number: -1", "0 to 10000", "number: 4"],
        ),
        (
            "views",
            {"made_on": "gpu"},
            ["views.made_on", "found:    made_on: gpu", "cpu, or device", "made_on: cpu"],
        ),
        (
            "device",
            "gpu",
            ["device", "found:    device: gpu", "auto, cpu, cuda, or mps", "device: auto"],
        ),
        ("slots_per_gpu", 0, ["slots_per_gpu", "found:    slots_per_gpu: 0", "slots_per_gpu: 1"]),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(demo, key, value, parts):
    assert_says(refused(demo, **{key: value}), *parts)


def test_a_users_folder_that_is_not_there_is_refused(demo, own_dataset):
    keys = {"layout": "folders", "folder": "no/such/folder", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys)
    assert_says(
        refused(demo, datasets=["mine"]),
        "config/datasets/mine.yaml: folder: no/such/folder: there is no such folder",
        "expected: a folder, seen from the working directory",
    )


def test_a_folder_that_cannot_be_read_is_refused_with_the_reason(
    demo, here, own_dataset, monkeypatch
):
    (here / "own").mkdir()
    own_dataset("mine", "digits", folder="own", drawn=None)

    def closed(ask):
        def answer(path):
            if path.name == "own":
                raise PermissionError(13, "Permission denied")
            return ask(path)

        return answer

    for ask in ("iterdir", "is_dir"):
        monkeypatch.setattr(Path, ask, closed(getattr(Path, ask)))
    message = refused(demo, datasets=["mine"])
    assert_says(message, "mine.yaml: folder: own: this folder cannot be read: Permission denied")


def test_a_split_file_that_is_not_in_the_users_folder_is_refused(demo, here, own_dataset):
    (here / "own").mkdir()
    own_dataset("mine", "digits", folder="own", drawn=None, split="split.json")
    assert_says(refused(demo, datasets=["mine"]), "mine.yaml: split: there is no such file", "own")
    (here / "own" / "split.json").touch()
    planned(demo, datasets=["mine"])


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("images", "../other", ["images: the path leads out of", "found:    images: ../other"]),
        ("images", "/data", ["images: the path is an absolute path", "for example:", "images: "]),
        ("split", "../split.json", ["split: the path leads out of", "for example:", "split: "]),
        ("split", "a/../../s.json", ["split: the path leads out of"]),
        ("into", "../x", ["archives.0.into: the path leads out of", "inside the dataset's"]),
        ("into", "/x", ["archives.0.into: the path is an absolute path", "into: train/{stem}"]),
        ("into", "C:/x", ["archives.0.into: the path is an absolute path"]),
        ("into", "a\\..\\..\\x", ["archives.0.into: the path leads out of"]),
        ("into", ".{stem}.", ["archives.0.into: the path leads out of"]),
        ("into", "{name}", ["archives.0.into: braces are for {stem} alone"]),
        ("into", "a\0b", ["archives.0.into: the path contains a zero byte"]),
        ("file", "..", ["archives.0.file:", "found:    file: ..", "its name below"]),
        ("file", ".", ["archives.0.file:", "found:    file: .", "its name below"]),
        ("file", "../x.zip", ["archives.0.file:", "found:    file: ../x.zip", "its name below"]),
        ("file", "s{plit.json", ["archives.0.file:", "found:    file: s{plit.json", "braces"]),
        ("file", "..\\x.zip", ["archives.0.file: the path leads out of"]),
    ],
)
def test_a_path_out_of_the_datasets_folder_is_refused(demo, own_dataset, key, value, parts):
    keys = {key: value}
    if key in ("into", "file"):
        keys = {"archives": [{"file": "x.zip", "urls": ["https://x.org/x.zip"]} | keys]}
    own_dataset("mine", "eurosat", **keys)
    assert_says(refused(demo, datasets=["mine"]), "config/datasets/mine.yaml: ", *parts)


def test_braces_in_the_path_of_the_project_are_refused(demo, monkeypatch):
    monkeypatch.setattr("vtclip.plan.checks.PROJECT", Path("/home/{me}/vtclip"))
    assert_says(refused(demo), "/home/{me}/vtclip", "with { or }", "Rename the folder, or move")


@pytest.mark.parametrize(
    ("folders", "class_names", "parts"),
    [
        (["cats"], {}, ["two class folders or more", "found cats"]),
        ([], {}, ["two class folders or more", "found none"]),
        (["cats", ".ipynb_checkpoints", "__MACOSX"], {}, ["two class folders", "found cats"]),
        (["Train/a", "Train/b"], {}, ["expected a train and a test folder", "found Train"]),
        (["train/a", "Train/b", "test/a"], {}, ["2 folders for one split, train: Train, train"]),
        (["cat", "dog"], {"cats": "a cat"}, ["class_names", "no class folder 'cats'", "'cat'?"]),
    ],
)
def test_a_users_folder_without_class_folders_or_splits_is_refused(
    demo, here, own_dataset, folders, class_names, parts
):
    (here / "photos").mkdir()
    for folder in folders:
        (here / "photos" / folder).mkdir(parents=True)
    keys = {"layout": "folders", "folder": "photos", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys, class_names=class_names)
    message = refused(demo, datasets=["mine"])
    assert_says(message, "config/datasets/mine.yaml: folder: photos: ", *parts)


def test_odd_names_in_a_users_folder_do_not_stop_the_plan(demo, here, own_dataset):
    for name in ("cats", "dogs"):
        (here / "photos" / name).mkdir(parents=True)
    (here / "photos" / "cats" / "1.png").symlink_to("nowhere.png")
    Path(os.fsdecode(b"photos/dogs/caf\xe9.png")).touch()
    Path(os.fsdecode(b"photos/caf\xe9")).mkdir()
    keys = {"layout": "folders", "folder": "photos", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys)
    assert job(planned(demo, datasets=["mine"]), "prepare_manifest", "mine").params["contents"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("n" * 201, ["name of 201 bytes", "found:    nnn", "200 bytes at most", "shorter name"]),
        ("é" * 101, ["name of 202 bytes", "found: ", "200 bytes at most", "shorter name"]),
        ("{shots}", ["cannot be called so", "found:    {shots}", "without braces"]),
        ("mean", ["cannot be called so", "found:    mean", "mean over datasets"]),
    ],
)
def test_a_dataset_whose_name_cannot_be_part_of_a_path_or_a_table(demo, own_dataset, name, parts):
    own_dataset(name, "digits")
    assert_says(refused(demo, datasets=[name]), f"config/datasets/{name}.yaml: ", *parts)


def test_an_archive_of_a_very_long_name(demo, own_dataset):
    own_dataset("mine", "dtd", archives=[{"file": "n" * 300, "urls": ["https://a.b"]}])
    message = refused(demo, datasets=["mine"])
    assert_says(message, "mine.yaml: archives", "name of 300 bytes", "found:", "shorter name")


def test_epochs_of_an_unknown_dataset_are_refused(demo):
    methods = {"vt_clip": {"epochs_of": {"leters": 5}}}
    message = refused(demo, methods=methods)
    assert_says(
        message, "mine.yaml: methods.vt_clip.epochs_of: Unknown dataset 'leters'", "'letters'?"
    )
    ablation = {"one_at_a_time": {"epochs_of": [{"leters": 5}]}}
    assert_says(refused(demo, ablation=ablation), "ablation.one_at_a_time", "'leters'")


def test_epochs_of_a_known_dataset_that_the_experiment_does_not_run_are_accepted(demo, own_dataset):
    own_dataset("mine", "digits")
    planned(demo, methods={"vt_clip": {"epochs_of": {"imagenet": 5, "mine": 3}}})


def test_a_variant_of_very_many_changes(demo):
    crossed = {
        "blocks": [2], "heads": [4], "self_attention": [False], "feed_forward": [2.5],
        "norm": ["post"], "residual": ["gate"], "residual_weight": [0.123456789],
        "dropout": [0.123456789], "learning_rate": [0.000123456789], "label_smoothing": [0.1],
        "clip_gradient": [1.5], "batch_size": [64], "warmup": [0.1],
    }  # fmt: skip
    message = refused(demo, ablation={"crossed": crossed})
    assert_says(message, "ablation.crossed: a name of", "200 bytes at most: vary fewer settings")


def test_weights_whose_name_leaves_no_room_for_endings(demo, here):
    file = "n" * 250 + ".pt"
    (here / file).write_text("weights")
    message = refused(demo, backbone=demo["backbone"] | {"pretrained": file})
    assert_says(message, "mine.yaml: backbone", "a name of 261 bytes", "200 bytes at most")


@pytest.mark.parametrize("seed", [2**31, 2**63, 10**400])
def test_a_seed_that_does_not_fit_in_a_table_is_refused(demo, own_dataset, seed):
    assert_says(refused(demo, seeds=[seed]), "seeds.0", "found: ", "0 to 2147483647", "write:")
    ablation = {"seeds": [seed], "one_at_a_time": {"heads": [4]}}
    assert_says(refused(demo, ablation=ablation), "ablation: seeds", "found: ")
    keys = {"layout": "folders", "folder": ".", "drawn": None, "fractions": {"seed": seed}}
    own_dataset("mine", "digits", **keys)
    message = refused(demo, datasets=["mine"])
    assert_says(message, "fractions.seed", "found: ", "0 to 2147483647", "write:")


@pytest.mark.parametrize("test", [10**9, 2**63])
def test_counts_beyond_a_hundred_million_are_refused(demo, own_dataset, test):
    own_dataset("mine", "digits", counts={"train": 1, "val": 0, "test": test, "classes": 2})
    message = refused(demo, datasets=["mine"])
    assert_says(message, "mine.yaml: counts.test", "100000000", "found:    test: ", "for example")


def test_a_layout_without_the_key_that_it_needs(demo, own_dataset):
    own_dataset("mine", "digits", split=None)
    message = refused(demo, datasets=["mine"])
    assert_says(message, "mine.yaml: ", "layout coop needs the key 'split'")


def test_the_largest_seed_is_planned(demo):
    plan = planned(demo, seeds=[2**31 - 1])
    assert "1shot-seed2147483647" in plan.own_runs[-5].head


# The files themselves.


def test_a_key_that_is_given_twice_in_any_of_the_configurations_files(demo, here):
    (here / "mine.yaml").write_text("seeds: [1]\n")
    (here / "more.yml").write_text("shots: [1]\ndevice: cpu\nshots: [2]\n")
    with pytest.raises(ConfigError) as error:
        planned(demo, ["mine.yaml", "more.yml"])
    assert_says(str(error.value), "more.yml: ", "'shots' is given twice", "line 3")


def test_a_key_that_is_given_twice_in_a_datasets_file(demo, here, own_dataset):
    own_dataset("mine", "digits")
    with (here / "config/datasets/mine.yaml").open("a") as file:
        file.write("title: Again\n")
    message = refused(demo, datasets=["mine"])
    assert_says(message, "config/datasets/mine.yaml: ", "'title' is given twice", "line ")


def test_a_datasets_file_that_leads_nowhere_stops_only_those_who_use_it(demo, here):
    folder = here / "config" / "datasets"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").symlink_to(here / "gone.yaml")
    planned(demo)
    assert_says(
        refused(demo, datasets=["mine"]), "config/datasets/mine.yaml: there is no such file"
    )


def test_an_experiment_of_which_no_dataset_can_be_had(paper):
    message = refused(paper, datasets=["imagenet"])
    assert_says(
        message, "imagenet is left out", "resources/archives/imagenet/", "No dataset is left."
    )


def test_one_error_names_everything_wrong_in_the_file(demo):
    message = refused(demo, shots="many", device="gpu", name="a/b", backbone={})
    for key in ("shots", "device", "name", "backbone.name", "backbone.pretrained"):
        assert f"mine.yaml: {key}: " in message


ODD = [
    None, True, 0, 3, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "1", "a/b", "{x}", "..",
    [], [None], [[1]], [{}], ["x", "x"], {}, {"x": 1}, {1: 2}, {"x": [1]}, {"heads": [{}]},
    datetime.date(2024, 2, 29),  # YAML has dates
]  # fmt: skip


def keys_of(config, path=()):
    """The way to every value inside a configuration."""
    for key, value in config.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*path, key))


def test_no_value_of_any_key_ends_in_another_kind_of_error(demo):
    demo["ablation"] = {"method": "vt_clip", "shots": [1], "seeds": [1]}
    demo["ablation"] |= {"one_at_a_time": {"heads": [4]}, "crossed": {"epochs": [1]}}
    demo |= {"backbones": [], "name": "mine", "mirror": "m", "device": "cpu", "slots_per_gpu": 1}
    planned(demo)
    for path in list(keys_of(demo)):
        for value in ODD:
            config = copy.deepcopy(demo)
            inner = config
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            try:
                planned(config).targets()
            except ConfigError:
                continue


# The experiment's name.


@pytest.mark.parametrize("name", ["features", "shots", "manifests", "benchmarks"])
def test_a_name_that_is_a_folder_of_all_experiments_is_refused(demo, name):
    message = refused(demo, name=name)
    assert_says(
        message, f"results/{name}/ is shared", f"found:    name: {name}", "write:", "name: "
    )
    with pytest.raises(ConfigError, match=rf"results/{name}/ is shared"):
        planned(demo, f"{name}.yaml")


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".", "", "n" * 300, "a b", "{shots}", "a\n", "-n", 3, None]
)
def test_a_name_that_is_no_part_of_a_path_is_refused(demo, name):
    assert_says(refused(demo, name=name), "mine.yaml: name", "found:", "expected:", "write:")


# Backbones.


def wrong(**changes):
    return {"name": "glyph-clip", "pretrained": "my.pt", "architecture": "mine.json"} | changes


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [
        (
            {"name": "RN51", "pretrained": "openai"},
            [
                "backbone.name: Unknown backbone 'RN51'",
                "known: ",
                " more.",
                "mean 'RN50'?",
            ],
        ),
        (
            {"name": "RN50", "pretrained": "openai"},
            [
                "backbone.name",
                "QuickGELU",
                "found:    name: RN50\n",
                "write:",
                "name: RN50-quickgelu",
            ],
        ),
        (
            {"name": "RN50-quickgelu", "pretrained": "openay"},
            [
                "backbone.pretrained",
                "found:    pretrained: openay",
                "openai, yfcc15m",
                "pretrained: openai",
            ],
        ),
        (  # open_clip itself would take these, and name other files by them
            {"name": "RN50-quickgelu", "pretrained": "OpenAI"},
            ["backbone.pretrained", "found:    pretrained: OpenAI", "write:", "pretrained: openai"],
        ),
        (
            {"name": "ViT-B-32", "pretrained": "laion2b-s34b-b79k"},
            ["backbone.pretrained", "found:", "write:", "pretrained: laion2b_s34b_b79k"],
        ),
        (
            {"name": "RN50-quickgelu", "pretrained": "no/such.pt"},
            [
                "backbone.pretrained: there is no such file",
                "found:    pretrained: no/such.pt",
                "expected:",
            ],
        ),
        (
            {"name": "RN50-quickgelu", "pretrained": "weights.safetensors"},
            ["backbone.pretrained: there is no such file", "weights.safetensors", "expected:"],
        ),
        (
            {"name": "RN50-quickgelu", "pretrained": "glyphs"},
            [
                "backbone.pretrained",
                "32 pixels",
                "found:    RN50-quickgelu",
                "224",
                "write:",
                "architecture: ",
            ],
        ),
        (
            wrong(pretrained="openai"),
            ["backbone.pretrained", "found:    pretrained: openai", "a file of weights"],
        ),
        (
            wrong(architecture="none.json"),
            ["backbone.architecture", "found:    none.json", "expected:"],
        ),
        (wrong(architecture="."), ["backbone.architecture", "found:    .", "expected:"]),
        (
            wrong(spatial="cooked"),
            ["backbone.spatial", "found:    spatial: cooked", "spatial: projected"],
        ),
        (
            wrong(precision="int8"),
            ["backbone.precision", "found:", "float16", "precision: float32"],
        ),
        (
            wrong(name="{shots}"),
            ["backbone.name", "found:    name: '{shots}'", "expected:", "write:"],
        ),
        (wrong(name=""), ["backbone.name", "found:    name: ''", "expected:", "write:"]),
        (wrong(name="n" * 300), ["backbone.name", "found:    name: nnn", "expected:", "write:"]),
        ({}, ["backbone.name", "write:", "name: RN50-quickgelu", "backbone.pretrained", "write:"]),
        ("RN50", ["backbone: ", "found:    backbone: RN50", "write:", "backbone: {name: "]),
        (
            None,
            ["backbones: ", "no backbone", "found:    backbones: []", "write:", "backbones: [{"],
        ),
    ],
)
def test_a_backbone_that_cannot_be_used_is_refused(demo, here, backbone, parts):
    (here / "my.pt").write_text("weights")
    (here / "mine.json").write_text(json.dumps(ARCHITECTURE))
    assert_says(refused(demo, backbone=backbone), "mine.yaml: ", *parts)


def test_an_experiment_without_a_backbone(demo):
    del demo["backbone"]
    assert_says(
        refused(demo), "mine.yaml: backbones: ", "no backbone", "found:", "expected:", "write:"
    )
    message = refused(demo, backbones=[])
    assert_says(message, "mine.yaml: backbones: ", "no backbone", "found:    backbones: []")


def test_of_several_backbones_a_wrong_one_is_named_by_its_number(demo):
    message = refused(demo, backbones=[RN50, {"name": "RN50-quickgelu"}])
    assert_says(message, "backbones.1.pretrained", "write:", "pretrained: openai")


@pytest.mark.parametrize(
    "other",
    [
        {"pretrained": "other/my.pt"},  # the same folder of features
        {"pretrained": "other/my.pt", "precision": "float16"},  # the same file of weights
        {"pretrained": "other/my.pt", "spatial": "raw"},
        {"architecture": "other.json"},
    ],
)
def test_two_backbones_whose_files_would_be_the_same_are_refused(demo, here, other):
    for path in ("my.pt", "other/my.pt"):
        (here / path).parent.mkdir(exist_ok=True)
        (here / path).write_text(path)
    for path in ("mine.json", "other.json"):
        (here / path).write_text(json.dumps(ARCHITECTURE))
    message = refused(demo, backbone=wrong(), backbones=[wrong(**other)])
    assert_says(
        message,
        "mine.yaml: backbones: ",
        "two backbones would have the name glyph-clip-my",
        "found:",
        "expected:",
    )


def test_a_file_called_glyphs_beside_the_weights_that_the_workflow_trains(demo, here):
    (here / "glyphs.pt").write_text("weights")
    other = demo["backbone"] | {"pretrained": "glyphs.pt", "spatial": "raw"}
    assert "two backbones would have the name glyph-clip-glyphs" in refused(demo, backbones=[other])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["JSONDecodeError", "expected:", "embed_dim, vision_cfg and text_cfg"]),
        ("\ufeff{}", ["JSONDecodeError", "expected:"]),
        ("[" * 100_000, ["RecursionError", "expected:"]),
        ("[]", ["expected keys (embed_dim, vision_cfg, text_cfg", "found []"]),
        ("null", ["expected keys (embed_dim, vision_cfg, text_cfg", "found null"]),
        (
            "{}",
            ["embed_dim: Field required", "vision_cfg: Field required", "text_cfg: Field required"],
        ),
    ],
)
def test_a_file_that_is_no_architecture_is_refused(demo, here, text, parts):
    (here / "my.pt").write_text("weights")
    (here / "mine.json").write_text(text, encoding="utf-8")
    assert_says(
        refused(demo, backbone=wrong()), "mine.yaml: backbone.architecture: mine.json", *parts
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("embed_dim", "x"),
        ("embed_dim", 0),
        ("embed_dim", 64.0),
        ("embed_dim", True),
        ("embed_dim", 10**400),
        ("text_cfg", 3),
        ("text_cfg", []),
        ("text_cfg.layers", "many"),
        ("text_cfg.width", None),
        ("text_cfg.context_length", -1),
        ("text_cfg.vocab_size", [49408]),
        ("vision_cfg", "large"),
        ("vision_cfg.layers", "many"),
        ("vision_cfg.layers", [3, 4]),
        ("vision_cfg.layers", 10**9),
        ("vision_cfg.layers", [10**9] * 4),
        ("text_cfg.layers", 10**9),
        ("vision_cfg.width", 1.5),
        ("vision_cfg.patch_size", 0),
        ("vision_cfg.image_size", [32, 32]),
    ],
)
def test_an_architecture_with_a_wrong_type_is_refused(demo, here, path, value):
    content = json.loads(json.dumps(ARCHITECTURE))
    *outer, key = path.split(".")
    (content[outer[0]] if outer else content)[key] = value
    (here / "my.pt").write_text("weights")
    (here / "mine.json").write_text(json.dumps(content))
    assert_says(
        refused(demo, backbone=wrong()),
        f"mine.yaml: backbone.architecture: mine.json: {path}", "found:", "expected:", "write:",
    )  # fmt: skip


def test_an_architecture_in_latin_1_is_refused(demo, here):
    (here / "my.pt").write_text("weights")
    (here / "mine.json").write_bytes('{"author": "Käthe"}'.encode("latin-1"))
    assert "UnicodeDecodeError" in refused(demo, backbone=wrong())


# The length of messages.


@pytest.mark.parametrize(
    "changes",
    [
        {"n" * 3000: 1},
        {f"key{number}": 1 for number in range(1000)},
        {"shots": [-number for number in range(1000)]},
        {"datasets": ["n" * 3000]},
        {"datasets": ["n" * 3000, "n" * 3000]},
        {"datasets": [f"name{number}" for number in range(1000)]},
        {"methods": {"n" * 3000: None}},
        {"methods": {"vt_clip": {"epochs": {f"{number}x": 1 for number in range(1000)}}}},
        {"methods": {"coop": {"words": "a " * 3000}}},
        {"tests": {"n" * 3000: ["digits"]}},
        {"ablation": {"one_at_a_time": {"n" * 3000: [1]}}},
        {"backbone": {"name": "RN50", "pretrained": "n" * 3000}},
    ],
    ids=lambda changes: next(iter(changes))[:9],
)
def test_a_message_is_short_however_much_is_wrong(demo, changes):
    lines = refused(demo, **changes).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 600
