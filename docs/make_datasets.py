"""Write docs/datasets.md from the files in config/datasets/: `python docs/make_datasets.py`."""

from pathlib import Path

from vtclip.config.dataset import Dataset, read_dataset
from vtclip.files import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "datasets.md"

INTRODUCTION = """\
# Datasets

<!-- Written by docs/make_datasets.py from config/datasets/. Change those, and run it again. -->

The splits and the sampled shots are CoOp's, including their order. ImageNet and FGVC Aircraft use
their own lists. Sizes are of the downloads. The images and trademarks belong to their owners: read
the licence before you use a dataset.
"""

NOTES = """\
## How they are downloaded

`snakemake fetch --cores 4` downloads every archive and the backbone's weights, and nothing else.
Everything after that needs no internet.

An interrupted download continues where it stopped. The data received from an address waits in a
`.part` file for that address alone. Length and checksum are verified before a file gets its
name, and a receipt (`<file>.json`) records where it came from. If no address works, the error lists
each with its reason. You can then put the file into `resources/archives/<dataset>/` by hand, where
it is verified and used, or run the same command again.

- If every address has answered that it does not have the file (gone, forbidden, other bytes), the
  dataset is left out and marked as missing in the table. To try its addresses again, delete the
  `<file>.unavailable` beside it. Another address, mirror, length or checksum is tried without that.
- If a connection failed, a server was busy or a web page came, which may be a login to the network,
  the next run tries the addresses again.

Downloads trust the certificates that Python's certifi has. If a proxy or a server of your network
signs its own, name a file with its certificate in PEM form: `export
SSL_CERT_FILE=/path/to/certificates.pem`. `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` work, too. So do
`HTTPS_PROXY` and `NO_PROXY`. All of this is also true of weights from Hugging Face's hub.

`mirror: /a/folder` or `mirror: https://a.server/path` in the configuration replaces all
addresses. The mirror contains `<dataset>/<file>`.

Archives are unpacked into a temporary folder, which gets its name when it is complete. Only images
that the split names are unpacked: of SUN397, 39,700 of 108,754. Each of them must be there under
the split's name, in its case, or unpacking stops and lists the names that the archive has. Archives
are zip or tar files, without a password (also .tar.gz, .tar.bz2 and .tar.xz). The receipt
(`resources/images/<dataset>.json`) comes last, with the number of files and their joint checksum.
Several projects may share `resources/`: the second one waits, and uses what the first has unpacked.

## Images

The content of a file decides how it is decoded, not its suffix. The result is 8-bit RGB:

- Grey and CMYK images are converted, and 16 bits are scaled to 8.
- Transparency is dropped, and the first frame of an animation is used.
- The orientation that a camera has noted in EXIF is ignored, as CLIP's transform ignores it. Images
  of `layout: folders` are turned upright instead. The key `exif` of the dataset's file (upright or
  ignore) chooses. Features and heads record it, and `vtclip classify` reads images as the head's.
- Of an image more than 32 times as long as wide, the test view uses the middle alone.
- Floats, 32-bit integers and signed integers are scaled from their smallest pixel to their largest.

A file that is truncated or empty, is not an image, or contains NaN or infinity stops the extraction
with an error that lists all such files. To continue without them, list them in the dataset's file.
The metadata of its manifest then record this:

```yaml
leave_out: [images/beagle_116.jpg]
```

An image that appears twice in a split, under one label or two, is refused, and so is an image
outside the dataset's folder. Two classes may have the same name. The metadata of the manifest
contain a checksum of all the images. If you replace images under the same names, the manifest
changes, and everything that depends on it is made again.

## ImageNet

ImageNet requires an account at https://image-net.org, so no address is given here. Until its three
archives are in `resources/archives/imagenet/`, every run says so in three lines and continues
without it.

The official validation images are the test images. CoOp also uses them for validation, which would
mean choosing on the test set. Here ImageNet's validation shots are training images that were not
sampled. CoOp samples from an unsorted folder listing, so its own samples cannot be reproduced; here
the files are sorted.

ImageNetV2, -Sketch, -A and -R are test sets of ImageNet's classes and require no account. They are
named under `tests:` ([settings.md](settings.md)).

## A folder of your own

```yaml
title: My photographs
layout: folders
folder: /data/my-photographs
class_names: {n02123045: tabby cat}
templates: ["a photo of a {}."]
```

Save this as `config/datasets/mine.yaml` and add `mine` under `datasets:` in a configuration.
`class_names` and `templates` are optional. A class name for a folder that does not exist is
refused.

The folder contains either one folder per class, or split folders that contain class folders:
`train` (or `training`), `test` (or `testing`) and optionally `val` (or `valid`, `validation`,
`dev`), in upper or lower case. Without split folders, each class is split by `fractions` (0.5 to
train, 0.2 to validate, the rest to test), shuffled with its `seed`. With split folders but none
for validation, training images that were not sampled are used for validation.

With `folds: 5` no image is kept for a test alone. The images, those of split folders too, are
divided into five folds, evenly in each class, and near-duplicates (by perceptual hash) stay in
one fold. Each image is predicted by heads that were trained on the other four folds. What a
method chooses, it chooses on validation images of these four: a quarter of a class, but at least
one image and at most four. The accuracy in the tables is that over all images. The heads under the
dataset's name learn from all folds: these are the heads to use. An image is encoded once for all
of them. `folds` works with every layout, and needs three different images per class or more.

`shots: all` trains on every training image, however many each class has. In tables it comes last,
in figures one doubling to the right of the largest number, and in Parquet and JSON files it is
2147483647. Without folds and without a validation folder, no image is then left to choose on, so
methods that choose something require `choose: none`.

A folder that could be read in two ways is refused, before the first job if names alone show
it: two folders for one split, split folders beside other folders of images, training images without
test images, classes that contain split folders, a class without images for training or testing.
So is a tree that is not one folder per class: a class folder whose images are all in folders inside
it, or most of them in folders that several classes have. The error shows the tree, and what to
write if it is right:

```yaml
levels: 2                                 # art/cat/1.jpg: the classes are cat, ..., in all folders
split_folders: {trn: train, tst: test}    # trn/cat/1.jpg: other names of split folders
levels: 1                                 # cat/2023/1.jpg: the classes are cat, ...
```

`levels` counts the folders down to the classes, without the split folders, and class folders of one
name are one class. Several `split_folders` may be one split.

Most models read some names as the same text: `Cat` and `cat`, or `é` as one letter and as two.
Zero-shot gives such classes equal scores. `vtclip new` and the plan say so, and so does the
footnote of the table: give one of them another name. A blank class name is refused.

Links are followed. Hidden files and folders (`.name`, `name~`) are skipped, and so are those that
systems leave behind (`.DS_Store`, `._1.jpg`, `.ipynb_checkpoints`, `Thumbs.db`, `__MACOSX`). The
terminal names a hidden folder that contains images: rename it to use them. An image is a file with
the suffix of a format that Pillow decodes, or one whose content Pillow recognises. Other files,
broken links and names that are not UTF-8 are skipped too: the terminal shows how many, and the log
of `prepare_manifest` lists them all. The terminal also warns of images with the same content in
several splits or classes, because these are tested on what they were trained with. The manifest's
metadata record their number.

A table of labels is read with `layout: table`, as `vtclip new` writes it ([From a table of
labels](your-own-images.md#from-a-table-of-labels)):

```yaml
layout: table
table: labels.csv
folder: photographs
columns: {path: file_name, label: species, split: split}    # found by content if not named
```

### With a split file

If the split of your images is given, write it as CoOp's files are, save it in the folder, and use
`layout: coop` with that `folder`. Paths start from the folder, or from `images` inside it:

```text
{"train": [["cat/1.jpg", 0, "cat"], ["dog/1.jpg", 1, "dog"]],
 "val": [],
 "test": [["cat/2.jpg", 0, "cat"], ["dog/2.jpg", 1, "dog"]]}
```

```yaml
title: My photographs
layout: coop
folder: /data/my-photographs
split: split.json
counts: {train: 2, val: 0, test: 2, classes: 2}
```

Labels begin at 0, and each has one class name in one spelling. Each class needs an image to train
and one to test with.

### Changed images

If you add, change or remove an image, the dataset is processed again. Changes are detected by name,
size and time, so an image with the same size and time as the one that it replaces is not noticed.
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
