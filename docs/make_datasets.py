"""Write docs/datasets.md from the files in config/datasets/: `python docs/make_datasets.py`."""

from pathlib import Path

from vtclip.dataset import Dataset, read_dataset
from vtclip.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "datasets.md"

INTRODUCTION = """\
# Datasets

<!-- Written by docs/make_datasets.py from config/datasets/. Change those, and run it again. -->

The splits are CoOp's, and so are the sampled shots, order included; ImageNet's and
FGVC Aircraft's own lists are used for these two. Sizes are of the downloads. The images and their
marks belong to their owners: read a licence before you use a dataset.
"""

NOTES = """\
## How they are fetched

`snakemake fetch --cores 4` downloads every archive and the backbone's weights, and nothing else;
all that follows needs no internet. A download that breaks off goes on where it stopped: what has
come from an address waits in a `.part` file of that address alone. Length and checksum are verified
before a file gets its name, and a receipt (`<file>.json`) tells where it came from. When no address
works, the error lists each with its reason. Put the file into `resources/archives/<dataset>/` by
hand then, and it is verified and used; or run the same command again. Where every address has said
that it does not have the file (gone, forbidden, a web page, other bytes), the dataset is then left
out and marked as missing in the table; to try its addresses once more, delete the
`<file>.unavailable` beside it. Where a connection failed or a server was busy, which tells nothing
about the file, they are tried again.

`mirror: /a/folder` or `mirror: https://a.server/path` in the configuration stands for all
addresses; it holds `<dataset>/<file>`.

Archives are unpacked beside the place of the images, and the folder gets its name when it is whole.
Only images that the split names are unpacked: of SUN397, 39,700 of 108,754. The receipt
(`resources/images/<dataset>.json`) comes last, with the number of files and their joint checksum.
Projects may share `resources/`: who comes second waits, and takes what the first has unpacked.

## Images

They are decoded by content, whatever their suffix says, to 8-bit RGB: grey and CMYK are
converted, 16 bits are scaled to 8, transparency is dropped, of an animation the first frame is
taken, and an EXIF rotation is ignored, as CLIP's transform ignores it. Floats, integers of 32 bits
and signed ones are scaled from their smallest pixel to their largest. An image that is cut off,
empty, no image, or that holds NaN or infinity stops the extraction, which names all such images at
once. To go on without them, name them in the dataset's file; that is recorded in the metadata of
its manifest:

```yaml
leave_out: [images/beagle_116.jpg]
```

An image that comes twice in a split, under one label or two, is refused, and so is one outside the
dataset's folder. Two classes may have one name. The manifest's metadata hold a checksum of all the
images: other images under the same names are another manifest, and all that follows is made anew.

## ImageNet

It takes an account at https://image-net.org, so it has no address here. Until its three archives
lie in `resources/archives/imagenet/`, every run says so in three lines and goes on without it. The
official validation images are the test images. CoOp takes them for validation as well, which would
choose on the test set: here ImageNet's validation shots are training images that were not picked.
CoOp samples from an unsorted folder listing, so its own picks cannot be had again; here the files
are sorted.

ImageNetV2, -Sketch, -A and -R are test sets of its classes, which take no account. They are named
under `tests:` ([settings.md](settings.md)).

## A folder of your own

```yaml
title: My photographs
layout: folders
folder: /data/my-photographs
class_names: {n02123045: tabby cat}
templates: ["a photo of a {}."]
```

Put this into `config/datasets/mine.yaml` and `mine` under `datasets:`. The folder holds a folder
for each class, or split folders that do: `train` (or `training`), `test` (or `testing`) and perhaps
`val` (or `valid`, `validation`, `dev`), in upper or lower case. Without split folders each class is
split by `fractions` (0.5 to train, 0.2 to validate, the rest to test), shuffled by its `seed`.
With split folders and none for validation, training images that were not picked validate. Class
names and templates may be left out; a class name for a folder that is not there is refused.

`shots: all` trains on every training image, however many each class has. It comes last in tables,
one doubling to the right of the largest number in figures, and is 2147483647 in Parquet and JSON
files. Without a validation folder no image is left to choose on: with methods that choose something
it then takes `choose: none`.

What could be read in two ways is refused, before the first job where names alone show it: two
folders for one split, split folders beside other folders of images, training without test images,
classes that hold split folders, a class that has no image to train or to test with.

Links are followed. Hidden files and folders, and those that systems leave behind (`.DS_Store`,
`._1.jpg`, `.ipynb_checkpoints`, `Thumbs.db`, `__MACOSX`), are skipped. An image is a file with the
suffix of a format that Pillow decodes, or one whose content Pillow knows. Other files, links that
lead nowhere and names that are not UTF-8 are passed over: the terminal tells how many, and the log
of `prepare_manifest` names them all. It also tells of images with the same content in several
splits or classes, which are tested on what they were trained with; the manifest's metadata keep
their number.

A picture that is added, changed or taken away reruns the dataset. Changes are seen by name, size
and time: a picture of the same size and time in the place of another is taken for the old one.
"""


def render_page(datasets: dict[str, Dataset]) -> str:
    """The page, with the datasets in the order of the paper."""
    return "\n".join([INTRODUCTION, *_table(datasets), "", NOTES, *_references(datasets), ""])


def read_datasets() -> dict[str, Dataset]:
    """The dataset files, by name."""
    paths = sorted((ROOT / "config" / "datasets").glob("*.yaml"))
    return {path.stem: read_dataset(path.stem, path.parent) for path in paths}


def _table(datasets: dict[str, Dataset]) -> list[str]:
    rows = ["| name | dataset | classes | train | val | test | download | licence |",
            "|---|---|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    for name, dataset in datasets.items():
        counts = dataset.counts
        if counts is None:
            continue
        numbers = (counts.classes, counts.train, counts.val, counts.test)
        cells = [name, dataset.title, *(f"{n:,}" for n in numbers), _size(dataset), dataset.licence]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _size(dataset: Dataset) -> str:
    total = sum(archive.bytes or 0 for archive in dataset.archives)
    return f"{total / 1e9:.2f} GB" if total else "none"


def _references(datasets: dict[str, Dataset]) -> list[str]:
    lines = ["## Sources and citations", ""]
    for name, dataset in datasets.items():
        citation = f" {dataset.citation}" if dataset.citation else ""
        lines.append(f"- **{name}**: {dataset.source}.{citation}")
    return lines


if __name__ == "__main__":
    write_text(PAGE, render_page(read_datasets()))
