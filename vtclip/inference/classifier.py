"""A trained head with its backbone, ready to classify images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import polars as pl
import torch
from torch import Tensor

from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.backbones.checkpoints import read_metadata
from vtclip.backbones.prompts import TextTower
from vtclip.backbones.shapes import read_architecture
from vtclip.config.backbone_config import BackboneConfig
from vtclip.cost import BATCH
from vtclip.data.images import PictureError, open_picture, without_size_warnings
from vtclip.features.extract import Encoder
from vtclip.features.loading import Pictures, explaining_workers, load_images
from vtclip.features.views import Views
from vtclip.files import owner, remove_leftovers
from vtclip.inference.runs import read_saved
from vtclip.inference.saved import Saved, SavedError, read_weights
from vtclip.methods import METHODS, make_method
from vtclip.nn.learner import eval_on
from vtclip.nn.towers import Towers
from vtclip.nn.visual_guided import VisualGuidedHead
from vtclip.runtime.devices import is_out_of_memory
from vtclip.task import Images, Prompts, Texts
from vtclip.tensors import write_tensors
from vtclip.training.calibration import CalibrationError, Rules

MIN_COSINE = 0.999  # of a text with itself, on another machine and in other arithmetic


@dataclass(frozen=True)
class Prediction:
    """The probabilities of one image's classes, or why there are none."""

    image: str  # the file
    class_names: Sequence[str]  # K names, by label
    probabilities: Tensor | None  # (K,) float32; None for an image that cannot be classified
    reason: str = ""  # why it cannot; "" for one that can
    classes: Sequence[str] | None = None  # its set, best first; None where none is asked for
    is_unknown: bool | None = None  # of none of the classes; None where that is not asked

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first."""
        if self.probabilities is None:
            raise PictureError(f"{self.image}: {self.reason}")
        best = self.probabilities.topk(min(number, len(self.class_names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.class_names[label], probability) for label, probability in pairs]


class Classifier:
    """A head, its class texts and the backbone that it goes with, on the device that computes."""

    def __init__(self, saved: Saved, backbone: Backbone) -> None:
        described = saved.description
        if described.method not in METHODS:
            raise SavedError(f"{saved.source}: the method '{described.method}' is not known here.")
        self.description = described
        self.class_names = described.class_names
        self.backbone, self.encode = backbone, Encoder(backbone)
        self.views = Views(backbone.preprocess, backbone.image_size)
        calibration = saved.calibration
        self.calibration = None if calibration is None else calibration.to(backbone.device)
        self.method = make_method(described.method, described.settings)
        prompts = None
        if self.method.predicts_with_tower:
            kind = Towers if self.method.reads_images else TextTower
            prompts = Prompts(self.class_names, kind(backbone))
        self.texts = Texts(
            saved.texts.to(backbone.device),
            described.logit_scale,
            has_pooled_token=backbone.has_pooled_token,
            made_of=prompts,
        )
        head = {name: tensor.to(backbone.device) for name, tensor in saved.head.items()}
        try:
            self.head = eval_on(self.method.classifier(head, self.texts), backbone.device)
        except (RuntimeError, KeyError) as error:
            if is_out_of_memory(error):
                raise
            raise SavedError(
                f"{saved.source}: its tensors are not those of a head of {described.method} with "
                f"its settings: {error}"
            ) from None

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, K) float32 of pixels (B, 3, H, W) after `backbone.preprocess`."""
        return self.evaluate(pixels)[0]

    def rules(
        self, coverage: float | None = None, refused: float | None = None, *, by_class: bool = False
    ) -> Rules | None:
        """Rules of sets with a coverage, and of refusals at a rate, for `predict`.

        Raises:
            CalibrationError: the head has no calibration, or one on too few images.
        """
        if by_class and coverage is None:
            raise CalibrationError("--by-class: it needs --coverage, such as --coverage 0.9.")
        if coverage is None and refused is None:
            return None
        if self.calibration is None:
            raise CalibrationError(
                "this head has no calibration, so it has no sets and no refusals: it was trained "
                "without validation shots, or by an earlier version. Give the dataset images "
                "beside the shots, use a method that learns from images, leave out "
                "`choose: none`, and run Snakemake again."
            )
        return self.calibration.rules(coverage, refused, by_class=by_class)

    def evaluate(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and pooled features (B, D)."""
        sent = pixels.to(self.backbone.device)
        pooled, spatial = map(round_as_stored, self.encode(sent))
        return self.head(Images(pooled, spatial, pixels=sent)), pooled

    def guided_head(self) -> VisualGuidedHead:
        """The head, whose texts attend to the image; a SavedError for one of another method."""
        if not isinstance(self.head, VisualGuidedHead):
            raise SavedError(
                f"{self.method.title} does not attend to places of an image: only a head of "
                "VT-CLIP has attention to draw."
            )
        return self.head

    def classify(self, image: str | Path) -> Prediction:
        """Classify one image file; a PictureError if it cannot be read."""
        (found,) = self.predict([image])
        if found.probabilities is None:
            raise PictureError(f"{image}: {found.reason}")
        return found

    def predict(
        self,
        images: Iterable[str | Path],
        rules: Rules | None = None,
        *,
        batch_size: int = BATCH,
        workers: int = 0,  # processes that decode images; with 0 this process does
    ) -> Iterator[Prediction]:
        """Classify image files, in their order; one that cannot be read has a reason."""
        names = [*map(str, images)]
        rows = pl.DataFrame({"image": names, "view": 0}, {"image": pl.String, "view": pl.Int64})
        pictures = Pictures(rows, self.views, Path(), exif=self.description.exif)
        pictures.views = [(name, [0]) for name in names]  # an image may be named twice
        left = iter(names)
        with explaining_workers():
            for pixels, reasons in load_images(pictures, batch_size, workers=workers):
                batch = [*islice(left, len(reasons))]
                yield from self._predict(batch, pixels, reasons, rules)

    def decode(self, image: str | Path) -> Tensor:
        """Pixels (3, H, W) of an image file, read as the images that the head was trained on."""
        picture = open_picture(image, exif=self.description.exif)
        with without_size_warnings():
            return self.views.normalize(self.views(picture, str(image), 0)[None])[0]

    @torch.inference_mode()
    def _predict(
        self, images: Sequence[str], pixels: Tensor, reasons: Sequence[str], rules: Rules | None
    ) -> list[Prediction]:
        """The predictions of images, by the pixels of those that can be read."""
        good = [image for image, reason in zip(images, reasons, strict=True) if not reason]
        found: Iterator[Prediction] = iter(())
        if good:
            sent = self.views.normalize(pixels.to(self.backbone.device))
            found = self._describe(good, *self.evaluate(sent), rules)
        return [
            Prediction(image, self.class_names, None, reason) if reason else next(found)
            for image, reason in zip(images, reasons, strict=True)
        ]

    def _describe(
        self, images: Iterable[str], logits: Tensor, pooled: Tensor, rules: Rules | None
    ) -> Iterator[Prediction]:
        """The predictions of images, by their logits (B, K) and features (B, D)."""
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        probabilities = (logits / temperature).softmax(dim=1).cpu()
        chosen, unknown = (None, None) if rules is None else rules.apply(logits, pooled)
        for place, (image, row) in enumerate(zip(images, probabilities, strict=True)):
            if not row.isfinite().all():
                reason = "its features are larger than half precision allows"
                yield Prediction(image, self.class_names, None, reason)
                continue
            classes = None
            if chosen is not None:
                best = row.argsort(descending=True).tolist()
                classes = [self.class_names[label] for label in best if chosen[place, label]]
            yield Prediction(
                image, self.class_names, row,
                classes=classes,
                is_unknown=None if unknown is None else bool(unknown[place]),
            )  # fmt: skip


def round_as_stored(features: Tensor) -> Tensor:
    """Features as heads are trained and tested on them: the workflow stores 16 bits a number."""
    return features.to(torch.float16).to(torch.float32)


def load_classifier(
    source: str | Path, *, backbone: str | Path | None = None, device: str | torch.device = "cpu"
) -> Classifier:
    """Load a trained head, ready to classify.

    Args:
        source: a run's folder, a file that `vtclip export` wrote, or the name of a run below
            results/, such as `demo/digits/vt_clip/16shot-seed1`, or `birds/best` for the head that
            the report begins with.
        backbone: the file of the backbone's weights; left out, those in the exported file, in
            resources/backbones/ or, of a tag of open_clip's, the downloaded ones.
        device: where to compute.

    Raises:
        SavedError: there is no such head, it cannot be used, or its backbone is not there.
        BackboneError: weights that are not of the head's backbone.
        DamagedError: a file is damaged.
    """
    return make_classifier(read_saved(source, backbone), device)


def make_classifier(saved: Saved, device: str | torch.device) -> Classifier:
    """Load the backbone of a head that was read; errors as of `load_classifier`."""
    tower = saved.description.backbone
    with _private_folder() as folder:
        architecture = None
        if tower.architecture is not None:
            architecture = folder / f"{tower.name}.json"
            architecture.write_text(json.dumps(tower.architecture), encoding="utf-8")
            # A file may come from anywhere: its architecture is checked before it is built.
            named = BackboneConfig(name=tower.name, pretrained="-", architecture=str(architecture))
            read_architecture(named)
        backbone = load_backbone(
            tower.name,
            pretrained=_choose_weights(saved, folder),
            architecture=architecture,
            spatial=tower.spatial,
            precision=tower.precision,
            device=device,
        )
    _check_backbone(saved, backbone)
    return Classifier(saved, backbone)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A temporary folder; those of killed processes, with a copy of a backbone, are removed."""
    remove_leftovers(Path(gettempdir()), "vtclip-")
    with TemporaryDirectory(prefix=f"vtclip-{owner()}.") as folder:
        yield Path(folder)


def _choose_weights(saved: Saved, folder: Path) -> str:
    """A file of weights, or open_clip's tag."""
    tower = saved.description.backbone
    if saved.weights is not None and not saved.has_backbone:
        known = read_metadata(saved.weights)
        if tower.preprocess is None or "preprocess" in known:
            return str(saved.weights)
    elif not saved.has_backbone and tower.architecture is None:
        tag = tower.weights.removeprefix(f"{tower.name}-")
        if tag == tower.pretrained:
            return tag
    file = folder / "weights.safetensors"
    origin = {"backbone": tower.name, "pretrained": tower.pretrained}
    if tower.preprocess is not None:
        origin["preprocess"] = tower.preprocess
    write_tensors(file, read_weights(saved), origin)
    return str(file)


def _check_backbone(saved: Saved, backbone: Backbone) -> None:
    """Refuse a backbone that encodes the first class's texts otherwise than the head's did."""
    described = saved.description
    found = backbone.encode_classes(described.class_names[:1], described.templates)[0].cpu()
    expected = saved.texts[0] if described.probe is None else torch.tensor(described.probe)
    if found.shape != expected.shape or float(found @ expected) < MIN_COSINE:
        raise SavedError(
            f"{saved.source}: the head goes with another backbone than these weights.\n"
            f"  found:    {saved.weights or described.backbone.pretrained}\n"
            f"  expected: {described.backbone.weights}, SHA-256 "
            f"{described.backbone.weights_sha256 or 'not known'}"
        )
