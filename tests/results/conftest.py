"""Hand-made predictions and records, and the runs that name them."""

import polars as pl

from vtclip.files import write_json
from vtclip.paths import Run


def make_run(dataset, method, predictions, *, backbone="clip", **more):
    """A row of the plan's index; what a test does not use is left empty."""
    row = {
        "backbone": backbone, "dataset": dataset, "tested": dataset, "method": method, "label": "",
        "shots": 0, "seed": 0, "head": "", "record": "", "texts": "",
    }  # fmt: skip
    return Run(predictions=str(predictions), **row | more)


def write_predictions(path, accuracies, images=10):
    """A predictions file in which each (shots, seed) has that share of the images right."""
    tables = [
        pl.DataFrame({"shots": shots, "seed": seed, "label": [0] * images}).with_columns(
            prediction=(pl.int_range(images) >= round(images * accuracy)).cast(pl.Int32)
        )
        for (shots, seed), accuracy in accuracies.items()
    ]
    pl.concat(tables).write_parquet(path)
    return path


def write_costs(path, seconds):
    """The run.json of a head that took so many seconds."""
    write_json(path, {"seconds": seconds, "peak_memory_bytes": 5e8, "peak_gpu_memory_bytes": 0})
    return str(path)
