"""The ablation's variants of a method, and what methods choose on the validation shots."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from vtclip.config.backbone_config import SpatialKind, with_spatial
from vtclip.config.experiment import Ablation, Experiment
from vtclip.methods import METHODS
from vtclip.methods.base import Method
from vtclip.paths import format_shots
from vtclip.plan.checks import check_length, check_method
from vtclip.settings import ConfigError, Settings, check, refusal
from vtclip.wording import inline, shorten

CHOSEN_ON = {
    "validation": "the validation shots, min(shots, 4) images per class",
    "all": "the whole validation split",
}
SPATIAL = "spatial"  # the one choice of the backbone that may be varied


@dataclass(frozen=True)
class Variant:
    """A method with other settings."""

    method: str
    changes: Mapping[str, Any]  # setting -> value, as the configuration names them
    settings: Settings  # all of the method
    spatial: SpatialKind | None = None  # None for the backbone's own
    as_configured: bool = False  # its heads are then the experiment's
    choose: str | None = None  # None for the experiment's

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
        changes = ", ".join(f"{key}: {inline(value)}" for key, value in self.changes.items())
        return changes or "as configured"

    def make(self) -> Method:
        """Make the method with these settings."""
        return METHODS[self.method](self.settings)


def list_variants(experiment: Experiment, *, source: str) -> list[Variant]:
    """Check an experiment's ablation; list the method as configured, then its variants."""
    ablation, source = experiment.ablation, f"{source}: ablation"
    if ablation is None:
        return []
    _check_part([ablation.method], list(experiment.methods), "method", source)
    _check_part(ablation.shots or [], experiment.shots, "shots", source)
    _check_part(ablation.seeds or [], experiment.seeds, "seeds", source)
    variants = [_make_variant(experiment, ablation.method, {}, source)]
    configured = variants[0].settings
    for key, changes in _list_changes(ablation):
        place = f"{source}.{key}"
        try:
            variant = _make_variant(experiment, ablation.method, changes, place)
        except ConfigError as error:
            raise ConfigError(_list_values(error, configured)) from None
        _refuse_twice(variant, variants[1:], place)
        check_length(variant.name, source=place, fix="vary fewer settings at a time")
        variants.append(variant)
    if all(variant.as_configured for variant in variants):
        names = METHODS[ablation.method].settings_type.model_fields
        raise refusal(
            source, "nothing is varied", found="no value but the configured ones",
            expected=f"one_at_a_time or crossed, with other values of {', '.join(names)}",
            write="one_at_a_time: {heads: [1, 4]}" if "heads" in names else "",
        )  # fmt: skip
    return variants


def _list_values(error: ConfigError, configured: Settings) -> str:
    """The error for one value, which says to write a list, if that varies anything."""
    before, write, line = str(error).partition("  write:\n    ")
    key, _, value = line.partition(": ")
    if not write or inline(getattr(configured, key, None)) == value:
        return before.rstrip()
    return f"{before}{write}{key}: [{value}]"


def _make_variant(
    experiment: Experiment, method: str, changes: Mapping[str, Any], source: str
) -> Variant:
    kind, given = METHODS[method].settings_type, experiment.methods[method] or {}
    configured = check(kind, given, source=source)
    values = {**given, **changes}
    spatial = values.pop(SPATIAL, None)
    settings = check(kind, values, source=source)
    if spatial not in (None, *get_args(SpatialKind)):
        raise refusal(
            f"{source}: {SPATIAL}", "no such kind", found=f"{SPATIAL}: {shorten(spatial)}",
            expected="projected or raw", write=f"{SPATIAL}: raw",
        )  # fmt: skip
    backbones = experiment.all_backbones
    if all(backbone.spatial == spatial for backbone in backbones):
        spatial = None
    for backbone in backbones:
        check_method(method, settings, with_spatial(backbone, spatial), source=source)
    same = spatial is None and settings == configured
    return Variant(method, changes, settings, spatial, as_configured=same)


def list_kinds(methods: Iterable[str], variants: Iterable[Variant]) -> Iterable[SpatialKind]:
    """List the kinds of spatial features that methods and variants read beside the backbones'."""
    own = (METHODS[name].spatial_kind for name in methods)
    return dict.fromkeys(filter(None, [*own, *(variant.spatial for variant in variants)]))


def _refuse_twice(variant: Variant, others: Sequence[Variant], source: str) -> None:
    for other in others:
        if variant.as_configured and variant.label != other.label:
            continue  # another setting at the value that it has: compared, and not trained again
        same = (variant.settings, variant.spatial) == (other.settings, other.spatial)
        if same or variant.name == other.name:
            raise refusal(
                source, f"{variant.label} is named twice",
                found=f"{other.label} and {variant.label}", expected="each variant once",
            )  # fmt: skip


def _list_changes(ablation: Ablation) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, values in ablation.one_at_a_time.items():
        for value in values:
            yield "one_at_a_time", {key: value}
    if ablation.crossed:
        for combination in itertools.product(*ablation.crossed.values()):
            yield "crossed", dict(zip(ablation.crossed, combination, strict=True))


def _check_part(wanted: list[Any], known: list[Any], key: str, source: str) -> None:
    names = list(map(format_shots, known))
    for value in map(format_shots, wanted):
        if value not in names:
            problem = f"the experiment has no {inline(value)}"
            expected = f"some of {', '.join(map(str, names))}"
            raise refusal(f"{source}: {key}", problem, found=shorten(value), expected=expected)


def _slug(value: Any) -> str:
    """A value as a part of a path: letters, digits, points, and one dash for anything else.

    Other letters are written by their numbers: `caf-xE9`.
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", inline(value, allow_unicode=False)).strip("-")


def constant_settings(method: Method, shots: int) -> Settings | None:
    """A method's settings where nothing may be chosen; None where it has no constants.

    Of what it chooses, a value that the configuration names alone stays.
    """
    fixed, given = method.settings_without_choice(shots), method.settings.model_fields_set
    values = ((key, value) for key, value in method.settings if key in given)
    alone = {key: value for key, value in values if isinstance(value, list) and len(value) == 1}
    return None if fixed is None else fixed.model_copy(update=alone)


def methods_left_out(
    experiment: Experiment,
    settings: Mapping[str, Settings],
    variants: Sequence[Variant],
    *,
    source: str,
) -> dict[str, str]:
    """The methods that have no constants where nothing may be chosen -> why they are left out."""
    if experiment.choose != "none":
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
        reasons = "\n".join([*found.values(), "No method is left."])
        raise ConfigError(f"{reasons}\n  write:\n    choose: validation")
    if experiment.ablation is not None and experiment.ablation.method in found:
        raise ConfigError(
            f"{found[experiment.ablation.method]}\n  found:    ablation: method: "
            f"{experiment.ablation.method}\n  expected: a method that is not left out"
        )
    return found


def list_choosing(
    experiment: Experiment, settings: Mapping[str, Settings]
) -> dict[str, list[Variant]]:
    """Method that chooses -> itself under the other choices, for the optimism table."""
    found: dict[str, list[Variant]] = {}
    for name, given in settings.items() if experiment.optimism else ():
        method = METHODS[name](given)
        if not method.few_shot or not method.choices():
            continue
        has_constants = all(constant_settings(method, shots) for shots in experiment.shots)
        others = ("none", *CHOSEN_ON) if has_constants else CHOSEN_ON
        found[name] = [
            Variant(name, {"choose": choose}, given, choose=choose)
            for choose in others
            if choose != experiment.choose
        ]
    return found


def _refuse_choosing(given: Settings, source: str) -> None:
    if "select" in given.model_fields_set and getattr(given, "select", None) == "val":
        raise refusal(
            f"{source}: select", "the epoch cannot be chosen where nothing may be",
            found="select: val, and choose: none", expected="select: last, or choose: validation",
            write="select: last",
        )  # fmt: skip
