"""Sentences and names for people: notices before the first job, and what tables and report show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vtclip.config.dataset import dataset_name
from vtclip.data.descriptions import read_set
from vtclip.data.inventory import Numbers
from vtclip.methods import METHODS
from vtclip.methods.base import Method, Recipe
from vtclip.paths import ALL, Example, Run, name_shots
from vtclip.plan.variants import CHOSEN_ON, constant_settings
from vtclip.wording import count, explain_alike, find_alike, inline, list_some

if TYPE_CHECKING:
    from vtclip.plan import Plan

CHECKED, SCORES = 16, 10_000_000  # shots, and scores of them, whose labels the report checks

# Notices before the first job: requests that the data cannot meet, or only in part.


def list_unmet(plan: Plan) -> list[str]:
    """All requests that cannot be met."""
    lists = _list_unmet_shots, list_unmet_settings, _list_unused_keys, _list_odd_datasets
    return [sentence for each in lists for sentence in each(plan)]


def count_images(plan: Plan) -> dict[str, Numbers]:
    """Training set of heads -> images of each class, where their number is known."""
    counted = {name: plan.images_by_class(name) for name in plan.trained}
    return {name: numbers for name, numbers in counted.items() if numbers is not None}


def _list_unmet_shots(plan: Plan) -> Iterator[str]:
    """A sentence for each dataset whose classes have fewer images than are requested."""
    learning = [each for found in plan.compared.values() if (each := found.make()).few_shot]
    chooses = plan.experiment.choose == "validation" and any(each.choices() for each in learning)
    requested = [shots for shots in plan.experiment.shots if shots != ALL]
    is_drawn = learning and requested and plan.experiment.picks is None
    for name, numbers in count_images(plan).items() if is_drawn else ():
        train, most = numbers["train"], max(requested)
        few = [shots for shots in requested if min(train) < shots]
        if few:
            # In folds the seed says which images are left to validate on.
            same = "" if plan.folds_of(name) else ", the same with every seed"
            yield (
                f"{name}: `shots:` requests {list_some(few)} images per class, and its classes "
                f"have {_span(train)} to train on. A class with fewer gives all of them{same}."
            )
        val = numbers["val"] if any(numbers["val"]) else [max(0, n - most) for n in train]
        if chooses and min(val) < min(most, 4):
            yield (
                f"{name}: methods choose on {min(most, 4)} validation images per class at "
                f"{name_shots(most)}, and its classes have {_span(val)}."
            )


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    if isinstance(low, float):
        return f"{low:.4g} on average"
    return f"{low}" if low == high else f"{low} to {high}"


def list_unmet_settings(plan: Plan) -> list[str]:
    """A sentence for each setting of the user's that is used in part, or not at all."""
    return [*_list_too_large(plan), *_list_constants(plan), *_list_unseen_views(plan)]


def _list_too_large(plan: Plan) -> Iterator[str]:
    """Sentences about numbers of images or classes that are more than there are."""
    images = count_images(plan)
    batches = {
        f"{name} at {name_shots(k)}": int(sum(min(k, n) for n in numbers["train"]))
        for name, numbers in images.items()
        for k in plan.experiment.shots
    }
    classes = {name: len(numbers["train"]) for name, numbers in images.items()}
    for name, key, value in _list_given(plan):
        known = {"batch_size": batches, "train_classes": classes}.get(key, {})
        found = known if isinstance(value, int) else {}
        few = [f"{place} ({n})" for place, n in found.items() if value > n]
        if few:
            yield (
                f"{name}: `{key}: {value}` is more than there are: {list_some(few)}. All are "
                "used there."
            )


def _list_given(plan: Plan) -> Iterator[tuple[str, str, Any]]:
    """List method, key and value of the settings that a user gives, or that a variant changes."""
    for name, found in plan.compared.items():
        given = found.changes or found.settings.model_fields_set
        yield from ((name, key, value) for key, value in found.settings if key in given)


def _list_constants(plan: Plan) -> Iterator[str]:
    """Sentences about settings in whose place a method takes its constants."""
    if plan.experiment.choose != "none":
        return
    shots = max(plan.experiment.shots)
    used = {n: constant_settings(found.make(), shots) for n, found in plan.compared.items()}
    for name, key, value in _list_given(plan):
        constant = getattr(used[name], key, value)
        if value != constant:
            yield (
                f"{name}: `{key}: {inline(value)}` cannot be chosen from with `choose: none`: "
                f"the method takes its constant, {inline(constant)}."
            )


def _list_unseen_views(plan: Plan) -> Iterator[str]:
    """Sentences about random views that a user requests and that some methods do not see."""
    views, shots = plan.experiment.views, plan.experiment.shots
    if "number" not in views.model_fields_set or not views.number:
        return
    readers = {n: each for n, each in plan.compared.items() if METHODS[each.method].reads_views}
    if not readers:
        yield (
            f"`views: number: {views.number}` is not used: no method of the experiment reads them."
        )
    for name, found in readers.items():
        if isinstance(found.settings, Recipe):
            epochs = min(map(found.settings.epochs_at, shots))
            if epochs < 1 + views.number:
                yield (
                    f"{name}: an image is trained on in one view per epoch, and has "
                    f"{1 + views.number} views and as few as {count(epochs, 'epoch')}: some are "
                    "not used."
                )


def _list_unused_keys(plan: Plan) -> Iterator[str]:
    """Sentences about keys that add nothing."""
    tests = plan.experiment.tests
    named = [plan.experiment.backbone, *plan.experiment.backbones]
    for each in plan.experiment.all_backbones:
        if named.count(each) > 1:
            yield f"{each.folder}: this backbone is named {named.count(each)} times, and used once."
    if plan.experiment.optimism and not plan.optimistic:
        yield "`optimism: true` is not used: no method of the experiment chooses a setting."
    if isinstance(tests, str):
        if len(plan.experiment.datasets) == 1:
            yield f"`tests: {tests}` is not used: the experiment has one dataset."
        return
    for name in tests:
        if not tests[name]:
            yield f"tests: {name}: no test set is named, so nothing is added."
        if name in tests[name]:
            yield f"tests: {name}: its heads are tested on {name} in any case."


def _list_odd_datasets(plan: Plan) -> Iterator[str]:
    """Sentences about fractions beside split folders, and class names that read alike."""
    for name, dataset in plan.datasets.items():
        tree = plan.tree_of(name) if "fractions" in dataset.model_fields_set else None
        if tree is not None and tree.splits:
            yield f"{name}: `fractions` is not used: {dataset.folder} has train and test folders."
        if groups := find_alike(plan.class_names_of(name)):
            yield explain_alike(groups, name)


# Names and footnotes of tables, figures and report.


def list_titles(plan: Plan) -> dict[str, str]:
    """Method, dataset or half -> the name to show."""
    titles = {name: METHODS[name].title for name in plan.settings}
    titles |= {name: dataset.title for name, dataset in plan.datasets.items()}
    for split in plan.halves:
        titles[str(split)] = f"{titles[split.dataset]}, {split.half} classes"
    return titles


def list_notes(plan: Plan) -> list[str]:
    """Footnotes of all tables: what was chosen on what, and which settings were changed."""
    methods = [(METHODS[name].title, METHODS[name](given)) for name, given in plan.settings.items()]
    choices = _describe_choices(methods, _name_chosen_on(plan))
    if plan.left_out:
        names = ", ".join(METHODS[name].title for name in plan.left_out)
        choices += f" Left out, for they have none: {names}."
    text = "every image is a test image, of the heads of a fold that have not seen it."
    folds = [f"{each.title}: {text}" for each in plan.datasets.values() if each.folds]
    return [choices, *folds, *_describe_changes(plan, methods), *_describe_texts(plan)]


def list_ablation_notes(plan: Plan) -> list[str]:
    """Footnotes of the ablation: what each variant has chosen, or which constants it has taken."""
    methods = [(found.label, found.make()) for found in plan.variants]
    return [_describe_choices(methods, _name_chosen_on(plan)), *_list_constants(plan)]


def _name_chosen_on(plan: Plan) -> str | None:
    """The images that methods choose on, in words; None where nothing may be chosen."""
    if plan.experiment.choose == "validation" and plan.experiment.picks is not None:
        return "the validation images of the lists of picks"
    return CHOSEN_ON.get(plan.experiment.choose)


def _describe_choices(methods: Iterable[tuple[str, Method]], images: str | None) -> str:
    """Describe what each method, with its title, has chosen, and on how many images."""
    if images is None:
        return "Nothing was chosen on any image: each method has taken constants."
    chosen: dict[str, list[str]] = {}
    for title, method in methods:
        chosen.setdefault(" and ".join(method.choices()) or "nothing", []).append(title)
    parts = (f"{', '.join(titles)}: {what}" for what, titles in chosen.items())
    return f"Chosen on {images}: {'; '.join(parts)}."


def _describe_changes(plan: Plan, methods: Iterable[tuple[str, Method]]) -> list[str]:
    """Name the settings that are not the defaults; nothing where all are."""
    parts, constants = [], plan.experiment.choose == "none"
    for title, method in methods:
        defaults = type(method.settings)()
        used = constant_settings(method, max(plan.experiment.shots)) if constants else None
        names = [
            name
            for name, value in method.settings
            if value != getattr(defaults, name) and getattr(used, name, value) == value
        ]
        if names:
            parts.append(f"{title}: {', '.join(names)}")
    return [f"Settings other than the default ones: {'; '.join(parts)}."] if parts else []


def _describe_texts(plan: Plan) -> list[str]:
    """Say what the texts are made of; nothing where it is templates alone."""
    if isinstance(texts := plan.experiment.texts, str):
        return []
    title = texts.descriptions if texts.is_file else read_set(texts.descriptions).title
    added = any(found.with_templates for found in plan.sentences.values())
    return [
        f"Texts: {title}{', and the templates' if added else ', without templates'}. "
        "Published numbers are of templates where they do not say otherwise."
    ]


def explain_choices(plan: Plan) -> dict[str, str]:
    """Title of a method -> what it chooses in a run, and on which images."""
    images = _name_chosen_on(plan)
    found = {}
    for name, given in plan.settings.items():
        chosen = METHODS[name](given).choices() if images else []
        found[METHODS[name].title] = f"{' and '.join(chosen)}, on {images}" if chosen else "nothing"
    return found


# The report's images.


def list_examples(plan: Plan) -> list[Example]:
    """The datasets and backbones whose images the report shows."""
    rows = (_make_example(plan, run) for run in plan.own_runs if run.method == plan.reference)
    return list(dict.fromkeys(rows))


def _make_example(plan: Plan, run: Run) -> Example:
    pair = run.backbone, run.dataset
    is_drawn = pair in plan.drawn_attention
    return Example(
        *pair,
        images=plan.images_of(run.dataset),
        receipt=plan.images_receipt(run.dataset),
        texts=run.texts,
        attention=plan.paths.figure("attention/{}/{}".format(*pair))[1] if is_drawn else None,
        others=_find_others(plan, *pair) if run.shots else None,
        learned=_find_learned(plan, *pair) if run.shots else (),
        copies=plan.copies_of(run.dataset),
    )


def _find_learned(plan: Plan, backbone: str, dataset: str) -> tuple[str, ...]:
    """Features of images whose labels the report checks: of all folds, or of one seed's shots.

    The shots are as many as take little memory: each image gets a score for each class.
    """
    if plan.folds_of(dataset):
        return tuple(plan.fold_features(backbone, dataset_name(dataset)))
    classes, seed = plan.counts(dataset).classes, plan.experiment.seeds[0]
    shots = [n for n in plan.experiment.shots if n <= CHECKED and n * classes**2 <= SCORES]
    return (plan.shot_features_of(backbone, dataset, max(shots), seed),) if shots else ()


def _find_others(plan: Plan, backbone: str, dataset: str) -> str | None:
    """Features of the next dataset's shots: images of no class of this one."""
    names = list(dict.fromkeys(map(dataset_name, plan.trained)))
    other = names[(names.index(dataset_name(dataset)) + 1) % len(names)]
    if other == dataset_name(dataset):
        return None
    shots, seed = max(plan.experiment.shots), plan.experiment.seeds[0]
    return plan.shot_features_of(backbone, other, shots, seed)
