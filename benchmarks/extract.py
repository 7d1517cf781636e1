"""Views a second of the extract job, as it is and as it was, and of a bare loop of open_clip.

The job decodes, cuts views, encodes both outputs and writes Parquet. Before, processes that decode
passed views on as floats that torchvision's steps had made, and the job wrote between two passes of
the backbone; the files are equal to the bit. The bare loop only calls open_clip's `encode_image` on
pixels that lie ready in memory, with the same batch size. All are measured in turns, and the best
of each counts. Weights are random: speed does not depend on them. Each image comes in `--views`
views, the test view first.

Seconds are on the clock, and those of all cores together. With `--light` the backbone is one layer
of a small ViT, so that decoding takes most of the time, as it does beside a GPU.
"""

import argparse
import json
import logging
import resource
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
from vtclip.features.store import FeatureSet, open_features_writer
from vtclip.features.views import seed_of

SCALE = (0.5, 1.0)  # shares of an image's area in a random view
SEED = 1  # of the random views
LIGHT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "patch_size": 56, "width": 64, "layers": 1, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 1},
}

Seconds = tuple[float, float]  # on the clock, and of all cores together


def main() -> None:
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    paths = list_images(arguments.images, arguments.number)
    seconds: dict[str, list[Seconds]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = load(arguments, folder)
        write_rows(folder, paths)
        rows = list_rows(paths, arguments.views)
        run: dict[str, Callable[[], object]] = {
            "the extract job, from files to Parquet": lambda: job(backbone, folder, arguments),
            "the same before": lambda: job_before(backbone, rows, folder, arguments),
        }
        if not arguments.light:
            run |= without_files(backbone, arguments)
        for _ in range(arguments.rounds):
            for what, function in run.items():
                seconds.setdefault(what, []).append(measure(function))
        check_equal(folder)
    report(arguments, len(rows), {what: best(times) for what, times in seconds.items()})


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
    return parser.parse_args()


def list_images(folder: Path, number: int) -> list[Path]:
    """`number` images spread evenly over a folder."""
    found = sorted(p for p in folder.rglob("*") if has_suffix(p))
    if len(found) < number:
        raise SystemExit(f"{folder}: expected {number} images, found {len(found)}.")
    return found[:: len(found) // number][:number]


def load(arguments: argparse.Namespace, folder: Path) -> Backbone:
    device = arguments.device
    if not arguments.light:
        return load_backbone(arguments.backbone, pretrained=None, device=device)
    architecture = folder / "light.json"
    architecture.write_text(json.dumps(LIGHT))
    return load_backbone("light", pretrained=None, device=device, architecture=architecture)


def write_rows(folder: Path, paths: list[Path]) -> None:
    rows = {"image": [str(path) for path in paths], "label": 0, "class_name": "", "split": "train"}
    pl.DataFrame(rows).write_parquet(folder / "shots.parquet")


def list_rows(paths: list[Path], views: int) -> pl.DataFrame:
    images = pl.DataFrame({"image": [str(path) for path in paths], "label": 0, "split": "train"})
    return images.join(
        pl.DataFrame({"view": range(views)}), how="cross", maintain_order="left_right"
    )


class FloatViews(Dataset[torch.Tensor]):
    """Each view as floats of torchvision's own steps; an image is decoded once for all."""

    def __init__(self, backbone: Backbone, rows: pl.DataFrame) -> None:
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
        if self.decoded[0] != image:
            self.decoded = image, open_picture(image)
        if view == 0:
            return self.test(self.decoded[1])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(image, view, SEED))
            return self.random(self.decoded[1])


def job_before(
    backbone: Backbone, rows: pl.DataFrame, folder: Path, arguments: argparse.Namespace
) -> None:
    """The job with floats from process to process, and writing in turn with encoding."""
    size = arguments.batch_size
    batches = DataLoader(
        FloatViews(backbone, rows),
        size,
        num_workers=arguments.workers,
        pin_memory=arguments.device == "cuda",
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    with open_features_writer(folder / "before.parquet", describe(backbone)) as writer:
        for number, pixels in enumerate(batches):
            encoded = backbone.encode_images(pixels.to(arguments.device, non_blocking=True))
            writer.write(rows.slice(number * size, size), *encoded)


def job(backbone: Backbone, folder: Path, arguments: argparse.Namespace) -> None:
    extract_shots(
        backbone, folder / "shots.parquet", "/", folder / "features.parquet",
        number=arguments.views - 1, scale=SCALE, flip=True, seed=SEED,
        batch_size=arguments.batch_size, workers=arguments.workers,
    )  # fmt: skip


def check_equal(folder: Path) -> None:
    """Compare the features of both jobs bit for bit."""
    now, before = (FeatureSet([folder / f"{name}.parquet"]) for name in ("features", "before"))
    for ours, other in zip(now, before, strict=True):
        assert torch.equal(ours.pooled, other.pooled)
        assert torch.equal(ours.spatial, other.spatial)


def without_files(
    backbone: Backbone, arguments: argparse.Namespace
) -> dict[str, Callable[[], object]]:
    """The backbone alone, and open_clip's, on as many pixels that are ready in memory."""
    reference = open_clip.create_model(
        arguments.backbone, load_weights=False, device=arguments.device
    ).eval()
    size = backbone.image_size
    pixels = torch.randn(arguments.number * arguments.views, 3, size, size)
    batches = pixels.split(arguments.batch_size)
    return {
        "bare loop: open_clip's encode_image on ready pixels": lambda: bare(reference, batches),
        "our encode_images on ready pixels, both outputs": lambda: ours(backbone, batches),
    }


@torch.inference_mode()
def bare(reference: torch.nn.Module, batches: tuple[torch.Tensor, ...]) -> None:
    device = next(reference.parameters()).device
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        for batch in batches:
            reference.encode_image(batch.to(device))


def ours(backbone: Backbone, batches: tuple[torch.Tensor, ...]) -> None:
    for batch in batches:
        backbone.encode_images(batch.to(backbone.device))


def measure(function: Callable[[], object]) -> Seconds:
    started, before = time.perf_counter(), cpu_seconds()
    function()
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


def report(arguments: argparse.Namespace, views: int, seconds: dict[str, Seconds]) -> None:
    for line in describe_rates(arguments, views, seconds):
        print(line)


def describe_rates(
    arguments: argparse.Namespace, views: int, seconds: dict[str, Seconds]
) -> Iterator[str]:
    yield (
        f"{'a light backbone' if arguments.light else arguments.backbone}, "
        f"{arguments.number} images in {arguments.views} views, "
        f"batch {arguments.batch_size}, {arguments.device}, "
        f"{arguments.threads} threads, {arguments.workers} workers"
    )
    yield "| | views/s | views/s a core |"
    yield "|---|---:|---:|"
    for name, (clock, cores) in seconds.items():
        yield f"| {name} | {views / clock:.1f} | {views / cores:.1f} |"


if __name__ == "__main__":
    main()
