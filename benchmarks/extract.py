"""Views a second of the extract job, and of a bare loop of open_clip.

The job decodes, cuts views, encodes both outputs and writes Parquet. The bare loop only calls
open_clip's `encode_image` on pixels that lie ready in memory, with the same batch size.

Each row is measured in a process of its own, in turns, and the best of each counts. Weights are
random: speed does not depend on them. Each image comes in `--views` views, the test view first.
Seconds are on the clock, and those of all cores together. With `--light` the backbone is one layer
of a small ViT, so that decoding takes most of the time, as it does beside a GPU.
"""

import argparse
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import polars as pl
import torch
from measuring import run_alone

from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.data.images import has_suffix
from vtclip.features.extract import extract_shots
from vtclip.features.loading import Pictures
from vtclip.features.views import Views

SCALE = (0.5, 1.0)  # shares of an image's area in a random view
SEED = 1  # of the random views
LIGHT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "patch_size": 56, "width": 64, "layers": 1, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 1},
}

# What the Snakefile sets for jobs: memory that is freed is used again.
KEPT = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}

Seconds = tuple[float, float]  # on the clock, and of all cores together


def main() -> None:
    arguments = parse_arguments()
    if arguments.only:
        print(*measure(ROWS[arguments.only], arguments))
        return
    rows = [name for name in ROWS if not (arguments.light and ROWS[name] in (bare, ours))]
    seconds: dict[str, list[Seconds]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name in rows:
                seconds[name].append(measure_alone(name, folder))
    report(arguments, {name: best(times) for name, times in seconds.items()})


def measure_alone(name: str, folder: str) -> Seconds:
    """Seconds of a row in a process of its own."""
    memory = KEPT if ROWS[name] in (job, job_on_device) else {}
    said = run_alone(*sys.argv[1:], "--only", name, "--folder", folder, **memory)
    clock, cores = map(float, said.split())
    return clock, cores


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder with images below it")
    parser.add_argument("--number", type=int, default=300, help="images")
    parser.add_argument("--views", type=int, default=1, help="of each image")
    parser.add_argument("--backbone", default="RN50")
    parser.add_argument("--light", action="store_true", help="a backbone that takes no time")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def list_images(folder: Path, number: int) -> list[Path]:
    """`number` images spread evenly over a folder."""
    found = sorted(p for p in folder.rglob("*") if has_suffix(p))
    if len(found) < number:
        raise SystemExit(f"{folder}: expected {number} images, found {len(found)}.")
    return found[:: len(found) // number][:number]


def load(arguments: argparse.Namespace) -> Backbone:
    device = arguments.device
    if not arguments.light:
        return load_backbone(arguments.backbone, pretrained=None, device=device)
    architecture = arguments.folder / "light.json"
    architecture.write_text(json.dumps(LIGHT))
    return load_backbone("light", pretrained=None, device=device, architecture=architecture)


def list_rows(paths: list[Path], views: int) -> pl.DataFrame:
    images = pl.DataFrame({"image": [str(path) for path in paths], "label": 0, "split": "train"})
    each = pl.DataFrame({"view": range(views)})
    return images.join(each, how="cross", maintain_order="left_right")


def job(backbone: Backbone, arguments: argparse.Namespace, made_on: str = "cpu") -> None:
    images = list_rows(list_images(arguments.images, arguments.number), 1).drop("view")
    shots = arguments.folder / "shots.parquet"
    images.with_columns(class_name=pl.lit("")).write_parquet(shots)
    extract_shots(
        backbone, shots, "/", arguments.folder / f"{made_on}.parquet",
        number=arguments.views - 1, scale=SCALE, flip=True, made_on=made_on, seed=SEED,
        batch_size=arguments.batch_size, workers=arguments.workers,
    )  # fmt: skip


def job_on_device(backbone: Backbone, arguments: argparse.Namespace) -> None:
    """The job with random views that the device makes."""
    job(backbone, arguments, "device")


def decode(backbone: Backbone, arguments: argparse.Namespace, device: str | None = None) -> None:
    """Do the workers' part of the job in this process: decode, and make their views."""
    rows = list_rows(list_images(arguments.images, arguments.number), arguments.views)
    views = Views(backbone.preprocess, backbone.image_size, scale=SCALE, flip=True, seed=SEED)
    pictures = Pictures(rows, views, Path("/"), device=device and torch.device(device))
    for number in range(len(pictures)):
        assert not isinstance(pictures[number], str)


def decode_for_device(backbone: Backbone, arguments: argparse.Namespace) -> None:
    decode(backbone, arguments, arguments.device)


@torch.inference_mode()
def bare(backbone: Backbone, arguments: argparse.Namespace) -> None:
    device = arguments.device
    reference = open_clip.create_model(arguments.backbone, load_weights=False, device=device).eval()
    with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
        for batch in ready_batches(backbone, arguments):
            reference.encode_image(batch.to(device))


def ours(backbone: Backbone, arguments: argparse.Namespace) -> None:
    for batch in ready_batches(backbone, arguments):
        backbone.encode_images(batch.to(backbone.device))


def ready_batches(backbone: Backbone, arguments: argparse.Namespace) -> Iterator[torch.Tensor]:
    """As many pixels as there are views, in memory."""
    views, size = arguments.number * arguments.views, arguments.batch_size
    batch = torch.randn(size, 3, backbone.image_size, backbone.image_size)
    for start in range(0, views, size):
        yield batch[: views - start]


ROWS: dict[str, Callable[[Backbone, argparse.Namespace], None]] = {
    "the extract job, from files to Parquet": job,
    "the same with `views.made_on: device`": job_on_device,
    "its share of a process that decodes": decode,
    "the same share with `views.made_on: device`": decode_for_device,
    "bare loop: open_clip's encode_image on ready pixels": bare,
    "our encode_images on ready pixels, both outputs": ours,
}


def measure(
    function: Callable[[Backbone, argparse.Namespace], None], arguments: argparse.Namespace
) -> Seconds:
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    backbone = load(arguments)
    started, before = time.perf_counter(), cpu_seconds()
    function(backbone, arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, cpu_seconds() - before


def best(seconds: list[Seconds]) -> Seconds:
    clock, cores = zip(*seconds, strict=True)
    return min(clock), min(cores)


def cpu_seconds() -> float:
    """Seconds of this process on all cores, and of its processes that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(each)[:2]) for each in who)


def report(arguments: argparse.Namespace, seconds: dict[str, Seconds]) -> None:
    views = arguments.number * arguments.views
    print(
        f"{'a light backbone' if arguments.light else arguments.backbone}, "
        f"{arguments.number} images in {arguments.views} views, "
        f"batch {arguments.batch_size}, {arguments.device}, "
        f"{arguments.threads} threads, {arguments.workers} workers"
    )
    print("| | views/s | views/s a core |\n|---|---:|---:|")
    for name, (clock, cores) in seconds.items():
        print(f"| {name} | {views / clock:.1f} | {views / cores:.1f} |")


if __name__ == "__main__":
    main()
