"""A classifier as one graph, from pixels to logits, sets and refusals, in the ONNX format."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtclip.backbones.image_towers import encode_images
from vtclip.files import BLANK, MARK, atomic_write, seal
from vtclip.inference.classifier import Classifier, round_as_stored
from vtclip.inference.saved import SavedError
from vtclip.nn.visual_guided import VisualGuidedHead
from vtclip.task import Images
from vtclip.training.calibration import Rules

PACKAGES = ("onnx", "onnxscript")  # with which PyTorch writes graphs
LARGEST = 1536 * 2**20  # bytes of weights: those of more PyTorch writes into a second file


class Graph(nn.Module):
    """Pixels (B, 3, H, W), after the backbone's test transform, to logits (B, K) float32.

    With rules, also to sets (B, K) bool and refusals (B,) bool.
    """

    def __init__(self, classifier: Classifier, rules: Rules | None = None) -> None:  # on the CPU
        super().__init__()
        self.rules = rules
        self.visual: Any = classifier.backbone.model.visual
        self.spatial = classifier.backbone.spatial
        self.head = classifier.head
        if isinstance(self.head, VisualGuidedHead):
            self.head.guide.memory = math.inf  # a graph is the same for any number of images

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, K) float32, and what the rules give."""
        pooled, spatial = map(round_as_stored, encode_images(self.visual, pixels, self.spatial))
        logits = self.head(Images(pooled, spatial, pixels=pixels))
        decided = () if self.rules is None else self.rules.apply(logits, pooled)
        return logits, *(found for found in decided if found is not None)


def trace(classifier: Classifier, rules: Rules | None = None) -> torch.export.ExportedProgram:
    """The classifier as a graph of PyTorch's, for any number of images."""
    size = classifier.backbone.image_size
    pixels = torch.zeros(2, 3, size, size)
    shapes = {"pixels": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        return torch.export.export(
            Graph(classifier, rules).eval(), (pixels,), dynamic_shapes=shapes
        )


def check_onnx() -> None:
    """Check that the packages are installed that write ONNX graphs."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SavedError(
            f"--onnx needs {' and '.join(missing)}, not installed here: pip install 'vtclip[onnx]'"
        )


def export_onnx(
    classifier: Classifier, destination: str | Path, rules: Rules | None = None
) -> None:
    """Write a classifier as an ONNX graph with the input `pixels` and the output `logits`.

    With rules the graph also has the outputs `in_set` and `unknown`, of those that are asked for.
    The classifier is on the CPU, in float32. The model's metadata contain the class names, by
    label, as JSON under `class_names`, under `exif` if images are to be turned upright, under
    `temperature` what logits are divided by before the softmax, and under `seal` what
    `vtclip.files.check_seal` reads.
    """
    check_onnx()
    if classifier.backbone.precision != "float32":
        raise SavedError("--onnx: the graph computes in float32, and this backbone in less.")
    if classifier.method.predicts_with_tower and not classifier.method.reads_images:
        raise SavedError(
            f"--onnx: {classifier.method.title} makes prompts for each image, which the graph "
            "cannot do for any number of images. Use --with-backbone."
        )
    weights = classifier.backbone.model.get_submodule("visual").parameters()
    found = sum(4 * weight.numel() for weight in weights)
    if found > LARGEST:
        raise SavedError(
            f"--onnx: the image tower has {found / 1e9:.1f} GB of weights, and one file can have "
            f"{LARGEST / 1e9:.1f} GB. Use --with-backbone, or a smaller backbone."
        )
    outputs = ["logits"]
    if rules is not None:
        outputs += ["in_set"] * (rules.thresholds is not None)
        outputs += ["unknown"] * (rules.limit is not None)
    program = torch.onnx.export(
        trace(classifier, rules), input_names=["pixels"], output_names=outputs, dynamo=True
    )
    assert program is not None
    properties = {
        "class_names": json.dumps(classifier.class_names),
        "exif": classifier.description.exif,
        "seal": MARK + BLANK,
    }
    if classifier.calibration is not None:
        properties["temperature"] = str(classifier.calibration.temperature.item())
    program.model.metadata_props.update(properties)
    with atomic_write(destination) as temporary:
        program.save(temporary)
        seal(temporary)
