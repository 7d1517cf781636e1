"""The model card of an exported head: a README in the form that model hubs read."""

import json
from pathlib import Path

from vtclip import __version__
from vtclip.files import write_text
from vtclip.inference.saved import Description, Saved
from vtclip.methods import METHODS
from vtclip.paths import name_shots

LIBRARY = "library_name: vtclip"
CLASSES = 100  # that a card names


def write_card(saved: Saved, file: str | Path) -> Path:
    """Write the card of an exported file beside it, over no README but such a card."""
    file = Path(file)
    card = file.with_name("README.md")
    if card.exists() and LIBRARY not in card.read_text(encoding="utf-8", errors="replace"):
        card = file.with_name(f"{file.name}.md")
    write_text(card, make_card(saved, file.name))
    return card


def make_card(saved: Saved, file: str) -> str:
    """The text of the card: front matter in YAML, whose strings are JSON's, then Markdown."""
    described = saved.description
    backbone, number = described.backbone, len(described.class_names)
    named = [f"`{name.replace('`', '')}`" for name in described.class_names[:CLASSES]]
    more = f", and {number - len(named)} more" if number > len(named) else ""
    front = {"pipeline_tag": "image-classification", "license": "other"}
    if backbone.pretrained.startswith("hf-hub:"):
        front["base_model"] = backbone.pretrained
    tags = ["few-shot", "clip", described.method]
    lines = [
        "---", LIBRARY,
        *(f"{key}: {json.dumps(value)}" for key, value in (front | {"tags": tags}).items()),
        "---", "",
        f"# {METHODS[described.method].title} of {number} classes", "",
        _describe_training(described), "",
        "## Estimate", "", *_describe_estimate(saved), "",
        "## Use", "", *_describe_use(file), "",
        "## Licence", "",
        f"The head builds on the weights `{backbone.weights}` ({backbone.pretrained}), which have "
        "a licence of their own: read it where they come from. So do the images that the head was "
        "trained on.", "",
        "## Classes", "", f"{', '.join(named)}{more}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _describe_training(described: Description) -> str:
    run = described.run
    images = "no image" if not run["shots"] else f"{name_shots(run['shots'])} per class"
    return (
        f"Made by vtclip {__version__}. Trained on {images} of the dataset `{run['dataset']}`, "
        f"with seed {run['seed']}, on features of the frozen CLIP `{described.backbone.weights}`."
    )


def _describe_estimate(saved: Saved) -> list[str]:
    run, known = saved.description.run, []
    for key, images in (("test_accuracy", "test"), ("val_accuracy", "validation")):
        if run.get(key) is not None:
            known.append(f"- Accuracy on the {images} images: {run[key]:.1%}")
    if saved.calibration is not None:
        known.append(
            f"- Probabilities, sets and refusals are calibrated on {len(saved.calibration.scores)} "
            "validation images. They are right for images of the same kind alone."
        )
    return known or ["There is none: the run had no validation images, and no predictions."]


def _describe_use(file: str) -> list[str]:
    if file.endswith(".onnx"):
        code = [
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({file!r})",
            'logits = session.run(["logits"], {"pixels": pixels})[0]',
        ]
    else:
        code = [
            "from vtclip.inference import load_classifier",
            f"classifier = load_classifier({file!r})",
            'print(classifier.classify("image.jpg").top(3))',
        ]
    return ["```python", *code, "```"]
