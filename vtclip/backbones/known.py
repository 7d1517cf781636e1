"""Names and configurations of models: open_clip's, the hub's and the user's; none is imported.

A model in the form of Hugging Face's hub is a folder, on the hub or on this machine, with its
configuration, its weights and, if it needs one, its tokenizer: `hf-hub:timm/ViT-B-16-SigLIP`,
`local-dir:/data/my-siglip`.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vtclip.config.backbone_config import (
    HUB,
    WEIGHTS,
    BackboneConfig,
    SpatialKind,
    find_folder,
    is_hub_name,
    list_parts,
    name_model,
)
from vtclip.runtime.environment import explain, trusted_certificates
from vtclip.settings import ConfigError, unknown

CONFIGURATION = "open_clip_config.json"
INSTALL = "python -m pip install 'vtclip[transformers]'"  # what some of them need


def has_pooled_token(kind: str, spatial: str) -> bool:
    """Check that the first spatial feature of a kind of tower is the pooled one."""
    return spatial == "projected" and kind in ("resnet", "vit")


class Measured(NamedTuple):
    """The size and the work of a model, as `vtclip.backbones.measure` finds them."""

    kind: str  # how the image tower pools: a TowerKind of `vtclip.backbones.image_towers`
    places: int  # spatial tokens of the map before pooling
    width: int  # numbers of each
    dim: int  # D, of the joint space
    image_size: int  # pixels of a side
    image_weights: int
    image_flops: float  # floating-point operations of encoding one image
    image_blocks: int  # blocks whose attention can be reached; 0 of a ResNet
    text_weights: int  # the decoder of a CoCa among them
    text_blocks: int  # the same of the text tower; 0 of Hugging Face's
    text_width: int  # numbers of a token in them
    prompt_flops: float  # of one prompt, forward and back to its words
    context_length: int  # tokens that the text tower reads, start and end among them

    @property
    def kinds(self) -> tuple[SpatialKind, ...]:
        """The kinds of spatial features that the image tower gives."""
        return ("raw",) if self.kind == "other" else ("projected", "raw")


def list_names() -> list[str]:
    """The names of open_clip's models, sorted."""
    return sorted(_known_configurations())


def read_content(backbone: BackboneConfig) -> dict[str, Any]:
    """The content of a backbone's configuration in open_clip's JSON form."""
    return read_configuration(find_configuration(backbone))


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a model's configuration; in the hub's form it is below `model_cfg`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"backbone.architecture: {path}: no model configuration in open_clip's JSON form: "
            f"{type(error).__name__}: {error}.\n  expected: a file as open_clip's model_configs/ "
            "has them, with embed_dim, vision_cfg and text_cfg"
        ) from None


def custom_content(backbone: BackboneConfig) -> dict[str, Any] | None:
    """The content of a custom architecture, or of one on the hub, which open_clip does not fix."""
    is_custom = backbone.architecture is not None or is_hub_name(backbone.name)
    return read_content(backbone) if is_custom else None


def find_configuration(backbone: BackboneConfig) -> Path:
    """The file of a model's configuration: open_clip's, the hub's, or the user's."""
    if backbone.architecture_file is not None:
        path = Path(backbone.architecture_file)
        if not path.is_file():
            raise ConfigError(
                f"backbone.architecture: there is no such file.\n  found:    {path}\n"
                "  expected: a model configuration in open_clip's JSON form"
            )
        return path
    if is_hub_name(backbone.name):
        return find_hub_configuration(backbone.name)
    configurations = _known_configurations()
    name = name_model(backbone.name)
    if name not in configurations:
        raise unknown("backbone", backbone.name, configurations, source="backbone.name")
    return configurations[name]


def key_of(backbone: BackboneConfig) -> str:
    """The key that names a backbone's configuration."""
    return "name" if backbone.architecture is None else "architecture"


@cache
def _known_configurations() -> dict[str, Path]:
    """open_clip's models, by name; open_clip is not imported."""
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model_configs"
    return {path.stem: path for path in folder.glob("*.json")}


def find_hub_configuration(name: str) -> Path:
    """The configuration of a model in the hub's form; from the hub it is fetched once."""
    return _find_first(name, (CONFIGURATION,))


def find_weights(name: str) -> Path:
    """The weights of a model in the hub's form; from the hub they are fetched once."""
    path = _find_first(name, WEIGHTS)
    for part in list_parts(path) if find_folder(name) is None else ():
        _find_first(name, (part.name,))
    return path


def _find_first(name: str, files: Sequence[str]) -> Path:
    """The first of some files that a model has; what is on this machine goes before the hub's."""
    folder = find_folder(name)
    if folder is None:
        found = _find_on_hub(name.removeprefix(HUB), files)
    else:
        found = next((folder / file for file in files if (folder / file).is_file()), None)
    if found is None:
        raise ConfigError(
            f"backbone.name: {name}: there is no such file.\n"
            f"  expected: a model in the hub's form, with {' or '.join(files)}"
        )
    return found


def _find_on_hub(model: str, files: Sequence[str]) -> Path | None:
    """The first of some files in the hub's cache, or else on the hub; None if it has none."""
    # The hub's own library takes a while, and a model that is not on the hub needs none of it.
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = (try_to_load_from_cache(model, file) for file in files)
    if found := next((path for path in cached if isinstance(path, str)), None):
        return Path(found)
    for file in files:
        try:
            with trusted_certificates():
                return Path(hf_hub_download(model, file))
        except Exception as error:  # of a name that is wrong, or of the network, there may be any
            is_absent = isinstance(error, EntryNotFoundError)
            if is_absent and not isinstance(error, LocalEntryNotFoundError):
                continue
            raise ConfigError(
                f"backbone.name: {HUB}{model}: {file} cannot be downloaded from the hub: "
                f"{explain(error)}\n  expected: the name of a model on huggingface.co, and the "
                "internet the first time"
            ) from None
    return None


def check_activation(name: str, pretrained: str, *, has_quick_gelu: bool) -> None:
    """Refuse weights that were trained with QuickGELU in a model with GELU.

    open_clip would only warn.
    """
    if not has_quick_gelu:
        raise ConfigError(
            f"backbone.name: the weights '{pretrained}' were trained with QuickGELU, and '{name}' "
            f"has GELU.\n  found:    name: {name}\n  expected: a name that ends with -quickgelu\n"
            f"  write:\n    name: {name}-quickgelu"
        )
