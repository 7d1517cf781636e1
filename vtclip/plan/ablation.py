"""The ablation: variants of one method, with other settings one at a time or crossed."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from vtclip.config.experiment import Ablation, Experiment, SpatialKind
from vtclip.methods import METHODS
from vtclip.paths import format_shots
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

    @cached_property  # a plan asks thousands of times
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

    Raises:
        ConfigError: a method or run that the experiment has not, a setting that the method has
            not, a value that is out of range, or two variants that are the same.
    """
    ablation, source = experiment.ablation, f"{source}: ablation"
    if ablation is None:
        return []
    _check_part([ablation.method], list(experiment.methods), "method", source)
    _check_part(ablation.shots or [], experiment.shots, "shots", source)
    _check_part(ablation.seeds or [], experiment.seeds, "seeds", source)
    variants = [_make_variant(experiment, ablation.method, {}, source)]
    for place, changes in _list_changes(ablation):
        with _writing_lists():
            variant = _make_variant(experiment, ablation.method, changes, f"{source}.{place}")
        _refuse_twice(variant, variants[1:], f"{source}.{place}")
        check_length(variant.name, source=f"{source}.{place}", cure="vary fewer settings at a time")
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


@contextmanager
def _writing_lists() -> Iterator[None]:
    """In an error about a setting, make the value to write a list: an ablation names several."""
    try:
        yield
    except ConfigError as error:
        written = re.sub(r"(?m)^( {4}\w+): (.*)$", r"\1: [\2]", str(error))
        raise ConfigError(written) from None


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
