"""Check the labels of a dataset by the features of its images; nothing is changed.

It prints images whose label the other images contradict, near-duplicates, and classes that can
hardly be distinguished, with lines to paste under `leave_out:` in the dataset's file. Features that
the experiment has computed are used. Other images are encoded, and their features are kept.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vtclip import paths
from vtclip.cli import add_device, positive, take_device

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from vtclip.plan import Plan

HELP = "find wrong labels and near-duplicates in a dataset"
EXAMPLES = """examples:
  vtclip check birds
  vtclip check digits --config config/demo.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's name")
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        help="an experiment with the dataset, whose first backbone is used "
        "(default: config/DATASET.yaml)",
    )
    parser.add_argument(
        "--top",
        type=positive,
        default=20,
        metavar="N",
        help="labels and pairs to show (default: 20)",
    )
    add_device(parser, to="encode images")


def run(given: argparse.Namespace) -> int:
    """Print what is doubtful."""
    from vtclip.cli.status import read_plan
    from vtclip.config.dataset import check_known
    from vtclip.data.duplicates import hash_images
    from vtclip.plan.checks import check_device
    from vtclip.results.labels import check_labels, describe_check
    from vtclip.settings import refusal

    check_device(given.device)
    check_known([given.dataset], source="DATASET")
    config = given.config = given.config or f"config/{given.dataset}.yaml"
    if not Path(paths.find_config(config)).is_file():
        expected = "the configuration of an experiment with the dataset"
        raise refusal("--config", "there is no such file", found=config, expected=expected)
    plan = read_plan([config])
    if given.dataset not in plan.datasets:
        expected = f"one of the experiment's datasets: {', '.join(plan.datasets)}"
        raise refusal(
            "DATASET", f"{config} has no such dataset", found=given.dataset, expected=expected
        )
    images = _list_images(plan, given.dataset)
    features = _read_features(plan, given, images)
    exif, folder = plan.datasets[given.dataset].exif, plan.images_of(given.dataset)
    hashes = hash_images(images["image"].to_list(), folder, exif=exif)
    check = check_labels(images, features, hashes)
    names = dict(images.select("label", "class_name").iter_rows())
    print("\n".join(describe_check(check, names, given.top)))
    return 0


def _list_images(plan: Plan, name: str) -> pl.DataFrame:
    """The images of a dataset as its file names them now: image, label, class_name, split."""
    from vtclip.data.layouts import read_layout
    from vtclip.data.manifest import leave_out

    dataset, folder = plan.datasets[name].model_dump(mode="json"), plan.images_of(name)
    return leave_out(read_layout(dataset, folder), dataset["leave_out"], folder)


def _read_features(plan: Plan, given: argparse.Namespace, images: pl.DataFrame) -> np.ndarray:
    """Pooled features of images (M, D), in their order."""
    import numpy as np

    backbone = next(iter(plan.backbones))
    folder = Path(paths.TEXTS.format(backbone=backbone, dataset=given.dataset, texts="")).parent
    own = folder / "check.parquet"
    found = _read_cached(plan, given.dataset, [*folder.rglob("*.parquet")])
    missing = images.filter(~images["image"].is_in(list(found)))
    if not missing.is_empty():
        kept = _read_cached(plan, given.dataset, [own] if own.is_file() else [])
        known = images["image"].is_in([*kept, *missing["image"]])
        _encode(plan, given, backbone, images.filter(known), own)
        found |= _read_cached(plan, given.dataset, [own], is_new=True)
    return np.stack([found[image] for image in images["image"]])


def _read_cached(
    plan: Plan, name: str, files: list[Path], *, is_new: bool = False
) -> dict[str, np.ndarray]:
    """Image -> its pooled feature in the test view, unless the image is newer than its file."""
    from vtclip.features.store import FeatureSet, check_origin, read_metadata

    images, exif = Path(plan.images_of(name)), plan.datasets[name].exif
    described = {file: read_metadata(file) for file in sorted(files)}
    used = {  # not the texts, and not what was read with another orientation
        file: found
        for file, found in described.items()
        if "tokens" in found and found.get("exif", "ignore") == exif
    }
    features: dict[str, np.ndarray] = {}
    for file, found in used.items():
        check_origin(file, found, *next(iter(used.items())))
        written = file.stat().st_mtime
        for batch in FeatureSet([file], spatial=False):
            for row, (image, view) in enumerate(batch.rows.select("image", "view").iter_rows()):
                is_there = view == 0 and image not in features and (images / image).is_file()
                if is_there and (is_new or (images / image).stat().st_mtime <= written):
                    features[image] = batch.pooled[row].numpy()
    return features


def _encode(
    plan: Plan, given: argparse.Namespace, backbone: str, images: pl.DataFrame, destination: Path
) -> None:
    """Write the features of images in the test view."""
    import polars as pl

    from vtclip.backbones.backbone import load_backbone
    from vtclip.cost import threads_to_decode
    from vtclip.features.extract import extract_test
    from vtclip.parquet import write_parquet
    from vtclip.plan.jobs import extract_test as plan_test
    from vtclip.settings import ConfigError

    weights = plan.weights_of(backbone)
    if not Path(weights).is_file():
        raise ConfigError(
            f"{weights}: the backbone is not there yet, to encode {images.height} images.\n"
            f"  Fetch it: snakemake fetch --cores all --configfile {given.config}"
        )
    job = plan_test(plan, backbone=backbone, dataset=given.dataset, part="test")
    with ExitStack() as stack:
        device = stack.enter_context(take_device(given.device))
        manifest = Path(stack.enter_context(TemporaryDirectory()), "manifest.parquet")
        write_parquet(manifest, images.with_columns(split=pl.lit("test")))
        extract_test(
            load_backbone(**job.params["backbone"], pretrained=weights, device=device),
            manifest,
            plan.images_of(given.dataset),
            destination,
            batch_size=64,
            workers=threads_to_decode(images.height) - 1,
            exif=plan.datasets[given.dataset].exif,
        )
