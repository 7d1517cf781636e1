"""The ablation's variants of a method, and what methods choose on the validation shots."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from vtclip.config.backbone_config import SpatialKind
from vtclip.config.dataset import Dataset
from vtclip.config.experiment import Ablation, Experiment
from vtclip.data.folders import find_splits
from vtclip.methods import METHODS
from vtclip.methods.base import Method, Recipe
from vtclip.paths import ALL, format_shots
from vtclip.plan.checks import check_length, check_method
from vtclip.settings import ConfigError, Settings, check, inline, shorten

CONFIGURED = "as configured"
SPATIAL = "spatial"  # the one choice of the backbone that may be varied


@dataclass(frozen=True)
class Variant:
    """A method with other settings.

    Attributes:
        method: the name of the method.
        changes: setting -> value, as the configuration names them.
        settings: all settings of the method.
        spatial: the kind of spatial features; None for the backbone's own.
        as_configured: whether it is the method as configured: its heads are the experiment's.
    """

    method: str
    changes: Mapping[str, Any]
    settings: Settings
    spatial: SpatialKind | None = None
    as_configured: bool = False

    @cached_property  # read for each of thousands of rows
    def name(self) -> str:
        """A part of a path: `vt_clip@heads=1,blocks=2`."""
        if self.as_configured:
            return self.method
        changes = ",".join(f"{key}={_slug(value)}" for key, value in self.changes.items())
        return f"{self.method}@{changes}"

    @property
    def label(self) -> str:
        """As tables name it: `heads: 1, blocks: 2`."""
        return (
            CONFIGURED
            if not self.changes
            else ", ".join(f"{key}: {inline(value)}" for key, value in self.changes.items())
        )


def list_variants(experiment: Experiment, *, source: str) -> list[Variant]:
    """Check an experiment's ablation, and list its variants.

    Args:
        experiment: with or without an ablation.
        source: the configuration's name, for the error.

    Returns:
        The method as configured, then its variants; nothing without an ablation.
    """
    ablation, source = experiment.ablation, f"{source}: ablation"
    if ablation is None:
        return []
    _check_part([ablation.method], list(experiment.methods), "method", source)
    _check_part(ablation.shots or [], experiment.shots, "shots", source)
    _check_part(ablation.seeds or [], experiment.seeds, "seeds", source)
    variants = [_make_variant(experiment, ablation.method, {}, source)]
    for place, changes in _list_changes(ablation):
        try:
            variant = _make_variant(experiment, ablation.method, changes, f"{source}.{place}")
        except ConfigError as error:
            raise ConfigError(
                f"{error}\n  An ablation takes a list of such values: `[...]`."
            ) from None
        _refuse_twice(variant, variants[1:], f"{source}.{place}")
        check_length(variant.name, source=f"{source}.{place}", fix="vary fewer settings at a time")
        variants.append(variant)
    if all(variant.as_configured for variant in variants):
        raise ConfigError(
            f"{source}: nothing is varied.\n  expected: one_at_a_time or crossed\n  write:\n"
            "    one_at_a_time: {heads: [1, 4]}"
        )
    return variants


def _make_variant(
    experiment: Experiment, method: str, changes: Mapping[str, Any], source: str
) -> Variant:
    configured = check(
        METHODS[method].settings_type, experiment.methods[method] or {}, source=source
    )
    values = {**(experiment.methods[method] or {}), **changes}
    spatial = values.pop(SPATIAL, None)
    settings = check(METHODS[method].settings_type, values, source=source)
    if spatial not in (None, *get_args(SpatialKind)):
        raise ConfigError(
            f"{source}: {SPATIAL}: no such kind.\n  found:    {SPATIAL}: {shorten(spatial)}\n"
            f"  expected: projected or raw\n  write:\n    {SPATIAL}: raw"
        )
    backbones = experiment.all_backbones
    if all(backbone.spatial == spatial for backbone in backbones):
        spatial = None
    for backbone in backbones:
        kind = {} if spatial is None else {"spatial": spatial}
        check_method(method, settings, backbone.model_copy(update=kind), source=source)
    same = spatial is None and settings == configured
    return Variant(method, changes, settings, spatial, as_configured=same)


def _refuse_twice(variant: Variant, others: Sequence[Variant], source: str) -> None:
    for other in others:
        if variant.as_configured and variant.label != other.label:
            continue  # another setting at the value that it has: compared, and not trained again
        same = (variant.settings, variant.spatial) == (other.settings, other.spatial)
        if same or variant.name == other.name:
            raise ConfigError(
                f"{source}: {variant.label} is named twice.\n  found:    {other.label} and "
                f"{variant.label}\n  expected: each variant once"
            )


def _list_changes(ablation: Ablation) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, values in ablation.one_at_a_time.items():
        for value in values:
            yield "one_at_a_time", {key: value}
    if ablation.crossed:
        for combination in itertools.product(*ablation.crossed.values()):
            yield "crossed", dict(zip(ablation.crossed, combination, strict=True))


def _check_part(wanted: list[Any], known: list[Any], key: str, source: str) -> None:
    for value in wanted:
        if value not in known:
            names = ", ".join(str(format_shots(name)) for name in known)
            raise ConfigError(
                f"{source}: {key}: the experiment has no {inline(format_shots(value))}.\n"
                f"  found:    {shorten(format_shots(value))}\n"
                f"  expected: some of {names}"
            )


def _slug(value: Any) -> str:
    """A value as a part of a path: letters, digits, points, and one dash for anything else."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", inline(value)).strip("-")


def constant_settings(method: Method, shots: int) -> Settings | None:
    """A method's settings where nothing may be chosen; None where it has no constants.

    Of what it chooses, a value that the configuration names alone stays.
    """
    fixed, given = method.settings_without_choice(shots), method.settings
    if fixed is None:
        return None
    alone = {
        name: value
        for name, value in given
        if name in given.model_fields_set and isinstance(value, list) and len(value) == 1
    }
    return fixed.model_copy(update=alone)


def methods_left_out(
    experiment: Experiment,
    settings: Mapping[str, Settings],
    variants: Sequence[Variant],
    *,
    source: str,
) -> dict[str, str]:
    """The methods that have no constants, where nothing may be chosen.

    Args:
        experiment: the configuration.
        settings: method -> settings.
        variants: of the ablation.
        source: the configuration's name, for the error.

    Returns:
        method -> why it is left out; empty where methods may choose.
    """
    if experiment.choose == "validation":
        return {}
    for name, given in settings.items():
        _refuse_choosing(given, f"{source}: methods.{name}")
    for variant in variants:
        _refuse_choosing(variant.settings, f"{source}: ablation, {variant.label}")
    found = {
        name: f"{source}: {name} is left out: with `choose: none` it has no constants to take."
        for name, given in settings.items()
        if any(constant_settings(METHODS[name](given), shots) is None for shots in experiment.shots)
    }
    if len(found) == len(settings):
        raise ConfigError("\n".join([*found.values(), "No method is left."]))
    if experiment.ablation is not None and experiment.ablation.method in found:
        raise ConfigError(
            f"{found[experiment.ablation.method]}\n  found:    ablation: method: "
            f"{experiment.ablation.method}\n  expected: a method that is not left out"
        )
    return found


def _refuse_choosing(given: Settings, source: str) -> None:
    if "select" in given.model_fields_set and getattr(given, "select", None) == "val":
        raise ConfigError(
            f"{source}: select: the epoch cannot be chosen where nothing may be.\n"
            "  found:    select: val, and choose: none\n"
            "  expected: select: last, or choose: validation\n  write:\n    select: last"
        )


def check_validation(
    experiment: Experiment,
    datasets: Mapping[str, Dataset],
    methods: Iterable[Variant],
    *,
    source: str,
) -> None:
    """Refuse to choose where all images are trained on, and none are set apart to validate.

    Args:
        experiment: the configuration.
        datasets: name -> file.
        methods: those of the experiment and its ablation.
        source: the configuration's name, for the error.
    """
    if ALL not in experiment.shots or experiment.choose == "none":
        return
    choosing = [
        found.method for found in methods if METHODS[found.method](found.settings).choices()
    ]
    for name, dataset in datasets.items():
        if choosing and not _has_validation(dataset):
            raise ConfigError(
                f"{source}: shots: all: {choosing[0]} chooses on validation images, and {name} has "
                "none beside those to train on.\n  found:    shots: all\n"
                f"  expected: a validation split of {name}, numbers, or methods that choose "
                "nothing\n  write:\n    choose: none"
            )


def _has_validation(dataset: Dataset) -> bool:
    if dataset.layout == "folders" and dataset.folder is not None:
        splits = find_splits(dataset.folder)
        return not splits or "val" in splits
    return dataset.counts is None or dataset.counts.val > 0


def describe_choices(
    methods: Iterable[tuple[str, Method]], *, choose: str, left_out: Iterable[str] = ()
) -> str:
    """A footnote: what each method has chosen, and on how many images.

    Args:
        methods: (title, method) of each, in the tables' order.
        choose: what was chosen on: validation, or none.
        left_out: titles of the methods that are left out.
    """
    if choose == "none":
        text = "Nothing was chosen on any image: each method has taken constants."
        names = ", ".join(left_out)
        return f"{text} Left out, for they have none: {names}." if names else text
    chosen: dict[str, list[str]] = {}
    for title, method in methods:
        chosen.setdefault(" and ".join(method.choices()) or "nothing", []).append(title)
    parts = (f"{', '.join(titles)}: {what}" for what, titles in chosen.items())
    return f"Chosen on the validation shots, min(shots, 4) images per class: {'; '.join(parts)}."


def explain_choice(name: str, settings: Settings) -> str:
    """What a method chooses in a run, and on which images."""
    method = METHODS[name]
    if not method.few_shot:
        return "Nothing: it learns from no image."
    parts = []
    if method.tunes:
        parts.append("settings with several values")
    if isinstance(settings, Recipe) and settings.select == "val":
        parts.append("the epoch")
    if not parts:
        kept = ": the last epoch is kept" if isinstance(settings, Recipe) else ""
        return f"Nothing{kept}."
    return f"{' and '.join(parts).capitalize()}: best on the run's validation shots."
