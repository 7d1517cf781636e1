"""open_clip's models and tokenizers, from a name, a configuration or a folder in the hub's form."""

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import timm
import torch
from open_clip.transform import merge_preprocess_dict

from vtclip.backbones.checkpoints import (
    OPENAI,
    BackboneError,
    check_finite,
    load_weights,
    read_checkpoint,
    read_metadata,
    unpack_files,
)
from vtclip.backbones.known import (
    CONFIGURATION,
    INSTALL,
    check_activation,
    find_hub_configuration,
    find_weights,
    read_configuration,
)
from vtclip.config.backbone_config import (
    OWN,
    check_transform,
    find_folder,
    is_hub_name,
    name_model,
)
from vtclip.runtime.environment import explain, trusted_certificates
from vtclip.settings import ConfigError


@dataclass(frozen=True)
class Blueprint:
    """Everything that a model is built from."""

    name: str  # open_clip's, or the user's
    config: dict[str, Any]  # open_clip's model_cfg
    preprocess: dict[str, Any]  # keys of the test transform that differ from open_clip's usual one
    tag: dict[str, Any]  # open_clip's entry of the weights; empty for others
    weights: str | None  # the file of weights; None for a tag, or for random ones
    origin: dict[str, str]  # metadata of a file of `fetch_backbone`; empty for others
    weights_key: str | None  # which weights to take of a file that has several

    @property
    def text(self) -> dict[str, Any]:
        """The configuration of the text tower."""
        return self.config["text_cfg"]

    @property
    def needs_files(self) -> bool:
        """Check that the tokenizer or the text tower is made from files of the hub."""
        return bool(self.text.get("hf_tokenizer_name") or self.text.get("hf_model_name"))


def find_blueprint(
    name: str,
    pretrained: str | None,
    architecture: str | Path | None = None,
    weights_key: str | None = None,
) -> Blueprint:
    """Find all that `load_backbone` builds from; arguments as there."""
    known = name_model(name, architecture)
    tag, weights = {}, pretrained
    if pretrained == OWN and is_hub_name(name):
        find_hub_configuration(name)  # a folder without one is no such model
        weights = str(find_weights(name))
    elif pretrained is not None and not Path(pretrained).is_file():
        tag, weights = _find_tag(known, pretrained), None
    origin = {} if weights is None else read_metadata(weights)
    if origin.get("backbone", known) != known:
        raise BackboneError(
            f"{weights}: expected weights of {known}, found weights of {origin['backbone']}."
        )
    config, preprocess = _find_config(name, known, architecture, origin)
    if tag.get("quick_gelu", False):
        check_activation(known, str(pretrained), has_quick_gelu=config.get("quick_gelu", False))
    if tag or not preprocess:
        preprocess = merge_preprocess_dict({}, tag or _find_usual_transform(known))
    return Blueprint(known, config, preprocess, tag, weights, origin, weights_key)


def build_model(blueprint: Blueprint, folder: Path, device: str | torch.device) -> Any:
    """Build open_clip's model with its weights, from a folder as `hub_folder` gives it."""
    check_timm_tower(blueprint.config)
    if blueprint.text.get("hf_model_name"):
        _import_transformers(blueprint)
    logging.disable(logging.WARNING)  # that the weights are random: those of a file come next
    try:
        model = open_clip.create_model(
            f"local-dir:{folder}", load_weights=False, pretrained_text=False, device=device
        )
    finally:
        logging.disable(logging.NOTSET)
    if blueprint.tag:
        open_clip.load_checkpoint(model, _download(blueprint))
    elif blueprint.weights is not None:
        weights = read_checkpoint(blueprint.weights, blueprint.weights_key)
        if weights.keys() >= set(OPENAI):
            quick_gelu = blueprint.config.get("quick_gelu", False)
            check_activation(blueprint.name, blueprint.weights, has_quick_gelu=quick_gelu)
        load_weights(model, weights, source=blueprint.weights)
    # A decoder, which is never used, may have uninitialised random weights in open_clip.
    if blueprint.tag or blueprint.weights is not None:
        check_finite(model.state_dict(), source=blueprint.weights or blueprint.name)
    return model


def _download(blueprint: Blueprint) -> str:
    """Download open_clip's weights of a tag, once; gives their path in the cache."""
    with trusted_certificates():
        try:
            return open_clip.download_pretrained(blueprint.tag)
        except (OSError, ValueError, RuntimeError) as error:  # open_clip's, or of the network
            raise BackboneError(
                f"{blueprint.name}: its weights cannot be downloaded from the hub: {explain(error)}"
            ) from error


def load_tokenizer(blueprint: Blueprint) -> Any:
    """open_clip's tokenizer of a model: texts -> (T, context) int64."""
    with hub_folder(blueprint, text=bool(blueprint.text.get("hf_tokenizer_name"))) as folder:
        return open_clip.get_tokenizer(f"local-dir:{folder}")


@contextmanager
def hub_folder(blueprint: Blueprint, *, text: bool) -> Iterator[Path]:
    """A folder in the hub's form while the block runs, without weights.

    With `text`, it has the files of Hugging Face's tokenizer and text tower, too: those in the
    metadata of the weights, or else the hub's.
    """
    with TemporaryDirectory(prefix="vtclip-") as made:
        folder, config = Path(made), deepcopy(blueprint.config)
        if text and not unpack_files(blueprint.origin, folder):
            _save_text_files(blueprint, folder)
        if config["text_cfg"].get("hf_model_name"):
            config["text_cfg"]["hf_model_name"] = str(folder)
        content = {"model_cfg": config, "preprocess_cfg": blueprint.preprocess}
        (folder / CONFIGURATION).write_text(json.dumps(content), encoding="utf-8")
        yield folder


def read_tags(name: str) -> dict[str, bool]:
    """Tags of a model's weights in open_clip -> True if they were trained with QuickGELU."""
    return {
        tag: open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    }


def _find_tag(name: str, pretrained: str) -> dict[str, Any]:
    """open_clip's entry of a model's weights."""
    found = open_clip.get_pretrained_cfg(name, pretrained)
    if not found:
        tags = [OWN] if is_hub_name(name) else open_clip.list_pretrained_tags_by_model(name)
        raise BackboneError(
            f"{name}: No such file or tag: expected a file of weights or one of the tags "
            f"{', '.join(tags) or '(none)'}, found '{pretrained}'."
        )
    return found


def _find_config(
    name: str, known: str, architecture: str | Path | None, origin: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """open_clip's model_cfg and preprocess_cfg; the latter is empty where none is known."""
    preprocess = json.loads(origin.get("preprocess", "{}"))
    if architecture is not None:
        content = read_configuration(Path(architecture))
    elif "config" in origin:
        content = json.loads(origin["config"])
    elif is_hub_name(name):
        content = read_configuration(find_hub_configuration(name))
    elif known in open_clip.list_models():
        content = open_clip.get_model_config(known)
    else:
        raise BackboneError(
            f"Unknown backbone '{name}'; known: {', '.join(open_clip.list_models())}."
        )
    # A file of the hub's has the configuration one level down.
    config = content.get("model_cfg", content) if isinstance(content, dict) else {}
    source = str(architecture or name)
    if not isinstance(config, dict) or "vision_cfg" not in config:
        raise ConfigError(
            f"{source}: expected JSON with model_cfg, or its keys embed_dim, vision_cfg and "
            f"text_cfg, found {content!r:.80}."
        )
    check_transform(content | {"model_cfg": config}, source=source)
    return config, preprocess or content.get("preprocess_cfg") or {}


def _find_usual_transform(name: str) -> dict[str, Any]:
    """Test transform that all known weights of a model share, for a user's, which do not say."""
    known = [
        merge_preprocess_dict({}, open_clip.get_pretrained_cfg(name, tag))
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    return known[0] if known and all(each == known[0] for each in known) else {}


def check_timm_tower(config: dict[str, Any]) -> None:
    """Refuse a model_cfg with an image tower that timm does not have."""
    name = config["vision_cfg"].get("timm_model_name")
    if name and not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise BackboneError(
            f"no {name} in timm {timm.__version__}{hint}: timm.list_models() lists its towers"
        )


def _import_transformers(blueprint: Blueprint) -> Any:
    try:
        return import_module("transformers")
    except ImportError:
        raise BackboneError(
            f"{blueprint.name}: its texts are read with Hugging Face's library: {INSTALL}"
        ) from None


def _save_text_files(blueprint: Blueprint, folder: Path) -> None:
    """Bring Hugging Face's tokenizer, and the configuration of the text tower, into a folder."""
    library, home = _import_transformers(blueprint), find_folder(blueprint.name)
    tokenizer, tower = (blueprint.text.get(f"hf_{part}_name") for part in ("tokenizer", "model"))
    wanted = []
    if tokenizer:
        wanted.append((library.AutoTokenizer, str(home or tokenizer)))
    if tower:
        is_home = home is not None and (home / "config.json").is_file()
        wanted.append((library.AutoConfig, str(home) if is_home else tower))
    with trusted_certificates():
        for reader, source in wanted:
            try:
                reader.from_pretrained(source).save_pretrained(str(folder))
            except (OSError, ValueError) as error:  # of a name that is wrong, or of the network
                raise BackboneError(
                    f"{blueprint.name}: the files of '{source}' cannot be downloaded from the hub: "
                    f"{explain(error)}\n  expected: a name on huggingface.co or a folder, and the "
                    "internet when they are fetched"
                ) from None
