"""Writing and reading features: our Parquet against other formats and other codecs.

Random fp16 features of the shape of RN50 (50 x 1,024 and 1,024). Files are read from the page
cache, so what is measured is the format and not the disk. Parquet is read row group by row group;
numpy's and safetensors' arrays are copied, since both may give views of the file.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measuring import time_once
from safetensors.torch import load_file, save_file

from vtclip.features.store import FeatureSet, open_features_writer

TOKENS, DIM, BATCH = 50, 1024, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2000)
    rows = parser.parse_args().rows
    generator = torch.Generator().manual_seed(0)
    spatial = (0.3 * torch.randn(rows, TOKENS, DIM, generator=generator)).half()
    pooled = spatial[:, 0].clone()
    raw = spatial.nbytes + pooled.nbytes
    print(f"{rows} rows of {TOKENS} x {DIM} and {DIM} fp16: {raw / 1e6:.0f} MB")
    print("| format | write MB/s | read MB/s | read, of numpy | size, of raw |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        measured = [(name, *measure(write, read, Path(folder) / "f")) for name, write, read in
                    formats(spatial, pooled)]  # fmt: skip
    numpy = measured[0][2]
    for name, writing, reading, size in measured:
        print(
            f"| {name} | {raw / writing / 1e6:.0f} | {raw / reading / 1e6:.0f} | "
            f"{numpy / reading:.2f} | {size / raw:.4f} |"
        )


Format = tuple[str, Callable[[Path], object], Callable[[Path], object]]


def formats(spatial: torch.Tensor, pooled: torch.Tensor) -> list[Format]:
    """Name, writer and reader of each format; numpy first."""
    tensors = {"spatial": spatial, "pooled": pooled}
    return [
        ("numpy.save, numpy.load + copy", lambda p: save_numpy(p, tensors), load_numpy),
        (
            "torch.save, torch.load",
            lambda p: torch.save(tensors, p),
            lambda p: torch.load(p, weights_only=True),
        ),
        ("safetensors, load_file + copy", lambda p: save_file(tensors, p), load_safetensors),
        ("**ours**: Parquet, binary, no codec", lambda p: save_ours(p, spatial, pooled), load_ours),
        *(
            (
                f"Parquet, list, {codec}",
                lambda p, codec=codec: save_list(p, tensors, codec),
                load_list,
            )
            for codec in ("none", "lz4", "zstd")
        ),
    ]


def measure(
    write: Callable[[Path], object], read: Callable[[Path], object], path: Path
) -> tuple[float, float, int]:
    """Seconds to write and to read (the best of three), and bytes on disk."""
    writing = min(time_once(lambda: write(path)) for _ in range(3))
    reading = min(time_once(lambda: read(path)) for _ in range(3))
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    return writing, reading, size


def save_numpy(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        np.save(path.with_name(f"{path.name}-{name}.npy"), tensor.numpy())


def load_numpy(path: Path) -> list[np.ndarray]:
    return [np.load(file).copy() for file in sorted(path.parent.glob(f"{path.name}-*.npy"))]


def save_ours(path: Path, spatial: torch.Tensor, pooled: torch.Tensor) -> None:
    with open_features_writer(path, {}) as writer:
        for rows in torch.arange(len(pooled)).split(BATCH):
            index = pl.DataFrame(
                {"image": [f"{row}.jpg" for row in rows], "label": 0, "split": "test", "view": 0}
            )
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            writer.write(index, pooled[part], spatial[part])


def load_ours(path: Path) -> None:
    for _ in FeatureSet([path]):
        pass


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def save_list(path: Path, tensors: dict[str, torch.Tensor], codec: str) -> None:
    columns = {
        name: pa.FixedSizeListArray.from_arrays(
            pa.array(tensor.numpy().reshape(-1)), tensor[0].numel()
        )
        for name, tensor in tensors.items()
    }
    pq.write_table(pa.table(columns), path, compression=codec, use_dictionary=False,
                   row_group_size=BATCH)  # fmt: skip


def load_list(path: Path) -> None:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group)


if __name__ == "__main__":
    main()
