"""Views a second of the extract job, as it is and as it was, and of a bare loop of open_clip.

The job decodes, cuts views, encodes both outputs and writes Parquet. Before, processes that decode
passed views on as floats of torchvision's own steps, the job wrote between two passes of the
backbone, and memory that was freed went back to the system. Still earlier an image was decoded for
each view. All these files are equal to the bit. With `views.made_on: device` the pixels of random
views differ a little. The bare loop only calls open_clip's `encode_image` on pixels that lie ready
in memory, with the same batch size.

Each row is measured in a process of its own, in turns, and the best of each counts. Weights are
random: speed does not depend on them. Each image comes in `--views` views, the test view first.
Seconds are on the clock, and those of all cores together. With `--light` the backbone is one layer
of a small ViT, so that decoding takes most of the time, as it does beside a GPU.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import polars as pl
import torch
from torch.utils.data import DataLoader, Dataset
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
from vtclip.features.extract import describe, extract_shots
from vtclip.features.loading import Pictures
from vtclip.features.store import FeatureSet, open_features_writer
from vtclip.features.views import Views, seed_of

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
        check_equal(Path(folder))
    report(arguments, {name: best(times) for name, times in seconds.items()})


def measure_alone(name: str, folder: str) -> Seconds:
    """Seconds of a row in a process of its own."""
    memory = KEPT if ROWS[name] in (job, job_on_device) else dict.fromkeys(KEPT, "")
    environment = {k: v for k, v in (os.environ | memory).items() if v or k not in KEPT}
    command = [sys.executable, *sys.argv, "--only", name, "--folder", folder]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    clock, cores = map(float, done.stdout.split())
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


class FloatViews(Dataset[torch.Tensor]):
    """Each view as floats of torchvision's own steps."""

    def __init__(self, backbone: Backbone, rows: pl.DataFrame, *, once: bool) -> None:
        self.once = once  # an image is decoded once for all views
        self.rows, self.test = rows.select("image", "view").rows(), backbone.preprocess
        crop = RandomResizedCrop(
            backbone.image_size, scale=SCALE, interpolation=InterpolationMode.BICUBIC
        )
        finish = [s for s in self.test.transforms if not isinstance(s, Resize | CenterCrop)]
        self.random = Compose([crop, RandomHorizontalFlip(), *finish])
        self.decoded = ("", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> torch.Tensor:
        image, view = self.rows[row]
        if not self.once or self.decoded[0] != image:
            self.decoded = image, open_picture(image)
        if view == 0:
            return self.test(self.decoded[1])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(image, view, SEED))
            return self.random(self.decoded[1])


def job_before(backbone: Backbone, arguments: argparse.Namespace, *, once: bool = True) -> None:
    """The job with floats from process to process, and writing in turn with encoding."""
    rows = list_rows(list_images(arguments.images, arguments.number), arguments.views)
    size = arguments.batch_size
    batches = DataLoader(
        FloatViews(backbone, rows, once=once),
        size,
        num_workers=arguments.workers,
        pin_memory=arguments.device == "cuda",
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    with open_features_writer(arguments.folder / "before.parquet", describe(backbone)) as writer:
        for number, pixels in enumerate(batches):
            encoded = backbone.encode_images(pixels.to(arguments.device, non_blocking=True))
            writer.write(rows.slice(number * size, size), *encoded)


def job_anew(backbone: Backbone, arguments: argparse.Namespace) -> None:
    """The same, with an image decoded for each view."""
    job_before(backbone, arguments, once=False)


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
    """What the workers do in the job, in this process: decode, and make what views they make."""
    rows = list_rows(list_images(arguments.images, arguments.number), arguments.views)
    views = Views(backbone.preprocess, backbone.image_size, scale=SCALE, flip=True, seed=SEED)
    pictures = Pictures(rows, views, Path("/"), device=device and torch.device(device))
    for number in range(len(pictures)):
        assert not isinstance(pictures[number], str)


def decode_for_device(backbone: Backbone, arguments: argparse.Namespace) -> None:
    decode(backbone, arguments, arguments.device)


def check_equal(folder: Path) -> None:
    """Compare the features of both jobs bit for bit."""
    now, before = (FeatureSet([folder / f"{name}.parquet"]) for name in ("cpu", "before"))
    for ours, other in zip(now, before, strict=True):
        assert torch.equal(ours.pooled, other.pooled)
        assert torch.equal(ours.spatial, other.spatial)


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
    "the job before": job_before,
    "the job before that, decoding for each view": job_anew,
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
