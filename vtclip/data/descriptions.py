"""Descriptions: sentences about each class, of a published set or of a user's JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from pydantic import Field

from vtclip.config.dataset import ArchiveFile, Dataset
from vtclip.config.experiment import Descriptions
from vtclip.files import read_record, sha256_of
from vtclip.paths import ARCHIVE, ARCHIVE_RECEIPT, DESCRIPTIONS, PROJECT
from vtclip.settings import ConfigError, Settings, check, read_yaml, refusal, unknown
from vtclip.wording import did_you_mean, list_lines, quote

FORM = "expected JSON, from each class's name to a list of sentences"


class SetFile(Settings):
    """A set's file for one dataset."""

    file: str = Field(description="its place below the set's `address`, or an address of its own")
    bytes: int | None = Field(default=None, description="its length in bytes")
    sha256: str | None = Field(default=None, description="its SHA-256 checksum")
    git_blob: str | None = Field(default=None, description="its name in a Git repository")


class DescriptionSet(Settings):
    """One file of config/descriptions/: a published set of sentences."""

    title: str = Field(description="the name in footnotes of the tables", examples=["CuPL"])
    address: str = Field(description="where its files are, ending in /")
    with_templates: bool = Field(description="whether its authors add the dataset's templates")
    licence: str = Field(description="the sentences' licence")
    source: str = Field(description="where the set comes from")
    files: dict[str, SetFile] = Field(description="dataset -> its file")
    keys: dict[str, dict[str, str | None]] = Field(
        default={}, description="dataset -> key -> class name, or null for no class of it"
    )
    swapped: dict[str, str] = Field(
        default={},
        description="dataset -> a pattern of keys with two groups, in the other order than in the "
        "class name",
    )


@dataclass(frozen=True)
class Sentences:
    """A dataset's file of sentences; `dataclasses.asdict` gives plain values."""

    file: str
    receipt: str | None  # with the checksum of a file that was fetched; None of a user's file
    with_templates: bool
    has_other_classes: bool = False  # the file's, of which the dataset has some
    keys: Mapping[str, str | None] = field(default_factory=dict)
    swapped: str | None = None

    def read(self, class_names: Sequence[str] | None) -> list[list[str]]:
        """Read the sentences of each class, by label; without class names, of all keys."""
        found = self._read_keys()
        if class_names is None:
            return [*found.values()]
        names = [name.replace("_", " ") for name in class_names]
        missing = [name for name in dict.fromkeys(names) if name not in found]
        faults = [f"no sentence for the class {quote(name)}" for name in missing]
        faults += [
            f"no class is called {quote(key)}{did_you_mean(key, missing or names)}"
            for key in found
            if key not in {*names} and not self.has_other_classes
        ]
        if faults:
            raise ConfigError(
                f"{self.file}: its keys are not the class names:\n  {list_lines(faults)}\n"
                "Give every class, by its name, at least one sentence, and no other key."
            )
        return [found[name] for name in names]

    def _read_keys(self) -> dict[str, list[str]]:
        """Read the sentences by class name."""
        path = Path(self.file)
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file of sentences.")
        if self.receipt is not None and Path(self.receipt).is_file():
            expected, digest = read_record(self.receipt)["sha256"], sha256_of(path)
            if digest != expected:
                raise ConfigError(
                    f"{path}: the file has changed since it was fetched: expected sha256 "
                    f"{expected}, as in {self.receipt}, found {digest}. Delete both to fetch it "
                    "again. Sentences of your own go into another file: name it under "
                    "`descriptions:`."
                )
        try:
            pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
        except ValueError as error:
            raise ConfigError(f"{path}: not readable as JSON: {error}. {FORM}.") from None
        if not isinstance(pairs, _Pairs):
            raise ConfigError(f"{path}: {FORM}, found a {type(pairs).__name__}.")
        found: dict[str, list[str]] = {}
        for key, sentences in pairs:
            name = self._name_class(key)
            if name is not None:
                _check_sentences(sentences, key, path, is_repeated=name in found)
                found[name] = sentences
        if not found:
            raise ConfigError(f"{path}: {FORM}, found none.")
        return found

    def _name_class(self, key: str) -> str | None:
        if key in self.keys:
            return self.keys[key]
        swapped = re.fullmatch(self.swapped, key) if self.swapped else None
        return f"{swapped[2]} {swapped[1]}" if swapped else key.replace("_", " ")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, with keys that are repeated."""


def _check_sentences(sentences: Any, key: str, path: Path, *, is_repeated: bool) -> None:
    if is_repeated:
        raise ConfigError(f"{path}: the class {quote(key)} is there twice. Join the two lists.")
    is_list = isinstance(sentences, list) and not isinstance(sentences, _Pairs)
    if not is_list or not all(isinstance(text, str) and text.strip() for text in sentences):
        raise ConfigError(f"{path}: {quote(key)}: {FORM}, found {sentences!r:.80}.")
    if not sentences:
        raise ConfigError(f"{path}: {quote(key)} has no sentence. Give it one or more.")


def list_sets() -> dict[str, Path]:
    """List the sets by name: the files of config/descriptions here and in the project."""
    places = [PROJECT / DESCRIPTIONS, Path(DESCRIPTIONS)]
    return {file.stem: file for place in places for file in place.glob("*.yaml")}


def read_set(name: str) -> DescriptionSet:
    """Read and check the file of a set."""
    path = list_sets()[name]
    return check(DescriptionSet, read_yaml(path), source=str(path))


def find_archive(name: str, dataset: str, family: str | None) -> ArchiveFile | None:
    """Find a set's file for a dataset, or for the one whose classes it has, as an archive."""
    found = read_set(name)
    file = found.files.get(dataset) or found.files.get(family or "")
    if file is None:
        return None
    known = file.model_dump(exclude={"file"})
    urls = [urljoin(found.address, file.file)]
    return ArchiveFile(file=f"descriptions-{name}.json", urls=urls, **known)


def find_sentences(
    given: Descriptions,
    dataset: str,
    described: Dataset,
    *,
    source: str,  # the key that names the descriptions, for errors
) -> Sentences:
    """Find a dataset's sentences."""
    if given.is_file:
        file = given.descriptions.replace("{dataset}", dataset)
        if not Path(file).is_file():
            raise refusal(
                source, f"there is no such file: {file}", found=given.descriptions,
                expected=f"{FORM.removeprefix('expected ')}; {{dataset}} stands for {dataset}",
            )  # fmt: skip
        return Sentences(file, None, bool(given.templates), described.classes_of is not None)
    family, sets = described.classes_of, list_sets()
    if given.descriptions not in sets:
        raise unknown("set of descriptions", given.descriptions, sets, source=source)
    found, archive = read_set(given.descriptions), find_archive(given.descriptions, dataset, family)
    if archive is None:
        others = [name for name in sorted(sets) if find_archive(name, dataset, family)]
        raise refusal(
            source, f"{given.descriptions} has no sentences for {dataset}",
            found=f"descriptions: {given.descriptions}",
            expected=f"{' or '.join([*others, 'a JSON file of your own'])}, or no {dataset}",
            write=f"texts: {{descriptions: {others[-1]}}}" if others else "",
        )  # fmt: skip
    return Sentences(
        ARCHIVE.format(dataset=dataset, file=archive.file),
        ARCHIVE_RECEIPT.format(dataset=dataset, file=archive.file),
        found.with_templates if given.templates is None else given.templates,
        dataset not in found.files,
        found.keys.get(dataset, {}),
        found.swapped.get(dataset),
    )


def find_all(
    texts: str | Descriptions, datasets: Mapping[str, Dataset], *, source: str
) -> dict[str, Sentences]:
    """Find the sentences of each dataset; none where the texts are of templates alone."""
    key = f"{source}: texts.descriptions"
    return {
        name: find_sentences(texts, name, dataset, source=key)
        for name, dataset in datasets.items()
        if not isinstance(texts, str)
    }


def list_archives(texts: str | Descriptions, name: str, dataset: Dataset) -> list[ArchiveFile]:
    """List the files to fetch for a dataset: its archives, and its sentences."""
    if isinstance(texts, str) or texts.is_file:
        return dataset.archives
    found = find_archive(texts.descriptions, name, dataset.classes_of)
    return [*dataset.archives, *([found] if found else [])]
