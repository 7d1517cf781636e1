"""What methods choose on the validation shots, and what they take where nothing may be chosen."""

from collections.abc import Iterable, Mapping, Sequence

from vtclip.config.dataset import Dataset
from vtclip.config.experiment import Experiment
from vtclip.data.folders import find_splits
from vtclip.methods import METHODS
from vtclip.methods.base import Method
from vtclip.paths import ALL
from vtclip.plan.ablation import Variant
from vtclip.plan.materials import Materials
from vtclip.settings import ConfigError, Settings

WHERE = "the validation shots, min(shots, 4) images per class"


def settle(method: Method, shots: int) -> Settings | None:
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


def leave_out(
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

    Raises:
        ConfigError: a setting that asks for a choice, or no method is left.
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
        if any(settle(METHODS[name](given), shots) is None for shots in experiment.shots)
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


def check_validation(plan: Materials, *, source: str) -> None:
    """Refuse to choose where all images are trained on, and none are set apart to validate.

    Raises:
        ConfigError: with the dataset and the methods that choose.
    """
    if ALL not in plan.experiment.shots or plan.experiment.choose == "none":
        return
    given = [*plan.settings.items(), *((found.method, found.settings) for found in plan.variants)]
    choosing = [name for name, settings in given if METHODS[name](settings).choices()]
    for name, dataset in plan.datasets.items():
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


def tell_choices(
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
    return f"Chosen on {WHERE}: {'; '.join(parts)}."
