"""Views a second of the extract job against a bare loop of open_clip over ready pixels.

The job decodes, transforms, encodes both outputs and writes Parquet. The bare loop only calls
open_clip's `encode_image` on pixels that lie ready in memory, with the same batch size. Both are
measured in turns, and the best of each counts. Weights are random: speed does not depend on them.
Each image comes in `--views` views, the test view first. Decoding and transforming is measured
alone as well, beside the way before: the image decoded anew for each view, and torchvision's own
steps. The pixels of both are the same bits.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import polars as pl
import torch
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)

from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.data.images import has_suffix, open_picture
from vtclip.features.extract import extract_shots
from vtclip.features.views import Views, seed_of

SCALE = (0.5, 1.0)  # shares of an image's area in a random view
SEED = 1  # of the random views


def main() -> None:
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    paths = list_images(arguments.images, arguments.number)
    backbone = load_backbone(arguments.backbone, pretrained=None, device=arguments.device)
    reference = open_clip.create_model(
        arguments.backbone, load_weights=False, device=arguments.device
    ).eval()
    look = Views(backbone.preprocess, backbone.image_size, scale=SCALE, flip=True, seed=SEED)
    pixels = decode(look, paths, arguments.views)
    assert torch.equal(pixels, decode_anew(backbone, paths, arguments.views))
    batches = pixels.split(arguments.batch_size)
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        run: dict[str, Callable[[], object]] = {
            "bare loop: open_clip's encode_image on ready pixels": lambda: bare(reference, batches),
            "our encode_images on ready pixels, both outputs": lambda: ours(backbone, batches),
            "the extract job, from files to Parquet": lambda: job(backbone, paths, arguments),
            "decoding and transforming alone": lambda: decode(look, paths, arguments.views),
            "the same before, decoding anew for each view": lambda: decode_anew(
                backbone, paths, arguments.views
            ),
        }
        for name, function in run.items():
            seconds.setdefault(name, []).append(measure(function))
    report(arguments, len(paths), {name: min(times) for name, times in seconds.items()})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder with images below it")
    parser.add_argument("--number", type=int, default=300, help="images")
    parser.add_argument("--views", type=int, default=1, help="of each image")
    parser.add_argument("--backbone", default="RN50")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def list_images(folder: Path, number: int) -> list[Path]:
    """`number` images spread evenly over a folder."""
    found = sorted(p for p in folder.rglob("*") if has_suffix(p))
    if len(found) < number:
        raise SystemExit(f"{folder}: expected {number} images, found {len(found)}.")
    return found[:: len(found) // number][:number]


def decode(look: Views, paths: list[Path], views: int) -> torch.Tensor:
    """The pixels of all views, by one process: each image decoded once."""
    pixels = []
    for path in paths:
        picture = open_picture(path)
        pixels += [look(picture, str(path), view) for view in range(views)]
    return torch.stack(pixels)


def decode_anew(backbone: Backbone, paths: list[Path], views: int) -> torch.Tensor:
    """The same pixels, as each view was made before."""
    crop = RandomResizedCrop(
        backbone.image_size, scale=SCALE, interpolation=InterpolationMode.BICUBIC
    )
    finish = [
        step for step in backbone.preprocess.transforms if not isinstance(step, Resize | CenterCrop)
    ]
    random, pixels = Compose([crop, RandomHorizontalFlip(), *finish]), []
    for path in paths:
        for view in range(views):
            picture = open_picture(path)
            if view == 0:
                pixels.append(backbone.preprocess(picture))
                continue
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of(str(path), view, SEED))
                pixels.append(random(picture))
    return torch.stack(pixels)


@torch.inference_mode()
def bare(reference: torch.nn.Module, batches: tuple[torch.Tensor, ...]) -> None:
    device = next(reference.parameters()).device
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        for batch in batches:
            reference.encode_image(batch.to(device))


def ours(backbone: Backbone, batches: tuple[torch.Tensor, ...]) -> None:
    for batch in batches:
        backbone.encode_images(batch.to(backbone.device))


def job(backbone: Backbone, paths: list[Path], arguments: argparse.Namespace) -> None:
    rows = {"image": [str(path) for path in paths], "label": 0, "class_name": "", "split": "train"}
    with tempfile.TemporaryDirectory() as folder:
        shots = Path(folder) / "shots.parquet"
        pl.DataFrame(rows).write_parquet(shots)
        extract_shots(
            backbone, shots, "/", Path(folder) / "features.parquet",
            number=arguments.views - 1, scale=SCALE, flip=True, seed=SEED,
            batch_size=arguments.batch_size, workers=arguments.workers,
        )  # fmt: skip


def measure(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def report(arguments: argparse.Namespace, number: int, seconds: dict[str, float]) -> None:
    for line in describe(arguments, number, seconds):
        print(line)


def describe(
    arguments: argparse.Namespace, number: int, seconds: dict[str, float]
) -> Iterator[str]:
    views = number * arguments.views
    yield (
        f"{arguments.backbone}, {number} images in {arguments.views} views, "
        f"batch {arguments.batch_size}, {arguments.device}, "
        f"{arguments.threads} threads, {arguments.workers} workers"
    )
    yield "| | views/s | of the bare loop |"
    yield "|---|---:|---:|"
    floor = next(iter(seconds.values()))
    for name, value in seconds.items():
        yield f"| {name} | {views / value:.1f} | {floor / value:.2f} |"


if __name__ == "__main__":
    main()
