"""Weights as people bring them: each form gives the same features, or is refused by its name."""

import argparse
import json
import logging
import pickle  # noqa: TID251 -- to write a trap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT
from vtclip.backbones.backbone import BackboneError, fetch_backbone, load_backbone
from vtclip.backbones.checkpoints import OPENAI, read_checkpoint
from vtclip.settings import ConfigError

ARCHITECTURE = ROOT / "config" / "backbones" / "glyph-clip.json"
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights(backbone) -> dict[str, torch.Tensor]:
    """The state_dict of the small CLIP."""
    return {key: tensor.contiguous().clone() for key, tensor in backbone.model.state_dict().items()}


def load(path: Path, architecture: Path = ARCHITECTURE):
    return load_backbone(architecture.stem, pretrained=str(path), architecture=architecture)


def refused(path: Path, architecture: Path = ARCHITECTURE) -> str:
    with pytest.raises(BackboneError) as error:
        load(path, architecture)
    assert error.type is BackboneError
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)
    return str(error.value)


def assert_as(backbone, path: Path) -> None:
    found, expected = (each.encode_images(PIXELS) for each in (load(path), backbone))
    assert torch.equal(found[0], expected[0]), path
    assert torch.equal(found[1], expected[1]), path


def prefixed(weights, prefix):
    return {f"{prefix}{key}": tensor for key, tensor in weights.items()}


WRAPPINGS = {
    "bare": lambda weights: weights,
    "model": lambda weights: {"model": weights, "epoch": 3},
    "state_dict": lambda weights: {"state_dict": weights, "optimizer": {"state": {}}},
    "open_clip's training": lambda weights: {
        "epoch": 1, "name": "run", "state_dict": prefixed(weights, "module."),
    },
    "model_state_dict": lambda weights: {"model_state_dict": weights, "loss": 0.5},
    "module": lambda weights: {"module": weights},
    "nested": lambda weights: {"model": {"state_dict": prefixed(weights, "module.model.")}},
    "Lightning": lambda weights: {
        "state_dict": prefixed(weights, "model."), "pytorch-lightning_version": "2.5",
    },
    "compiled": lambda weights: prefixed(weights, "_orig_mod."),
    "another prefix": lambda weights: prefixed(weights, "net.clip_model."),
    "a scale with one dimension": lambda weights: weights | {
        "logit_scale": weights["logit_scale"].reshape(1)
    },
}  # fmt: skip


@pytest.mark.parametrize("form", WRAPPINGS)
def test_the_usual_wrappings_are_taken_off(form, backbone, weights, tmp_path):
    torch.save(WRAPPINGS[form](weights), tmp_path / "my.pt")
    assert_as(backbone, tmp_path / "my.pt")


SEVERAL = {  # form -> the content, what is taken, and what else there is
    "timm": (
        lambda plain, mean: {"state_dict_ema": mean, "state_dict": plain, "epoch": 3},
        "state_dict", "state_dict_ema",
    ),
    "a model in a wrapper": (
        lambda plain, mean: {
            "model": plain, "model_ema": {**prefixed(mean, "module."), "decay": torch.tensor(0.9)}
        },
        "model", "model_ema",
    ),
    "Lightning": (
        lambda plain, mean: {
            "state_dict": prefixed(mean, "ema_model.") | prefixed(plain, "model.")
            | {"n_averaged": torch.tensor(7)}
        },
        "state_dict.model", "state_dict.ema_model",
    ),
    "a student and a teacher": (
        lambda plain, mean: prefixed(plain, "student.") | prefixed(mean, "teacher."),
        "student", "teacher",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_weights_it_says_which_are_taken_and_a_key_chooses(
    form, weights, tmp_path, caplog
):
    make, taken, other = SEVERAL[form]
    mean = {key: tensor + 1 for key, tensor in weights.items()}
    path = tmp_path / "my.pt"
    torch.save(make(weights, mean), path)
    for key, expected in ((None, weights), (taken, weights), (other, mean)):
        caplog.clear()
        found = read_checkpoint(path, key)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert (f"Those under '{taken}' are taken" in caplog.text) == (key is None)
    with pytest.raises(BackboneError, match=f"(?s)no weights under .*{other}.*expected: magic"):
        read_checkpoint(path, "magic")


def test_a_moving_average_alone_is_taken(weights, tmp_path, caplog):
    torch.save({"state_dict_ema": weights}, tmp_path / "my.pt")
    assert read_checkpoint(tmp_path / "my.pt").keys() == weights.keys()
    assert not caplog.text


def test_parts_with_an_index_are_the_weights_and_one_part_is_not(backbone, weights, tmp_path):
    keys = sorted(weights)
    parts = {"m-1-of-2.safetensors": keys[::2], "m-2-of-2.safetensors": keys[1::2]}
    for part, names in parts.items():
        save_file({name: weights[name] for name in names}, tmp_path / part)
    where = {name: part for part, names in parts.items() for name in names}
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    whole = load(index)
    assert torch.equal(whole.encode_images(PIXELS)[0], backbone.encode_images(PIXELS)[0])
    scale = where["logit_scale"]
    other = next(part for part in parts if part != scale)
    assert "one of several parts: give the index" in refused(tmp_path / other)
    weights[parts[other][0]] += 1
    save_file({name: weights[name] for name in parts[other]}, tmp_path / other)
    assert load(index).weights_sha256 != whole.weights_sha256
    (tmp_path / other).unlink()
    with pytest.raises(BackboneError, match=f"{other}.*No such file"):
        read_checkpoint(index)
    index.write_text("{}")
    with pytest.raises(ConfigError, match="no index of weights"):
        read_checkpoint(index)


def test_half_precision_is_read_as_float32(weights, tmp_path):
    torch.save({key: tensor.half() for key, tensor in weights.items()}, tmp_path / "my.pt")
    found = read_checkpoint(tmp_path / "my.pt")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert torch.equal(found["text_projection"], weights["text_projection"].half().float())


def test_the_content_counts_and_not_the_suffix(backbone, weights, tmp_path):
    save_file(weights, tmp_path / "safetensors.bin")
    torch.save(weights, tmp_path / "pytorch.safetensors")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert_as(backbone, path)


class Archived(torch.nn.Module):
    """A model of these weights as TorchScript archives have one, OpenAI's among them."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for key, tensor in weights.items():
            module, (*parents, name) = self, key.split(".")
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, torch.nn.Module())
                module = module.get_submodule(parent)
            module.register_buffer(name, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(weights: dict[str, torch.Tensor], path: Path) -> Path:
    torch.jit.script(Archived(weights)).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_torchscript_archive_is_read_with_the_masks_that_it_holds(backbone, weights, tmp_path):
    traced = weights | {"attn_mask": backbone.model.attn_mask}
    assert_as(backbone, archive(traced, tmp_path / "traced.pt"))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_openais_own_weights_are_read_and_refused_in_a_model_with_gelu(weights, tmp_path):
    numbers = dict.fromkeys(OPENAI, torch.tensor(32))
    half = {key: tensor.half() for key, tensor in weights.items()}
    path = archive(half | numbers, tmp_path / "ViT-B-32.pt")
    with pytest.raises(ConfigError, match="(?s)trained with QuickGELU.*name: glyph-clip-quickgelu"):
        load(path)
    twin = tmp_path / "glyph-clip-quickgelu.json"
    twin.write_text(json.dumps(json.loads(ARCHITECTURE.read_text()) | {"quick_gelu": True}))
    scale = weights["logit_scale"].half().float().exp().item()
    assert load(path, twin).logit_scale == pytest.approx(scale)


def test_a_fetched_file_is_clean_whatever_form_it_came_in(weights, tmp_path):
    torch.save({"state_dict": prefixed(weights, "module.")}, tmp_path / "my.pt")
    fetch_backbone(
        "glyph-clip", str(tmp_path / "my.pt"), tmp_path / "f.safetensors", architecture=ARCHITECTURE
    )
    fetched = load_file(tmp_path / "f.safetensors")
    assert fetched.keys() == weights.keys()
    assert all(torch.equal(fetched[key], weights[key]) for key in weights)


class Trap:
    """An object whose unpickling would leave a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(weights, tmp_path):
    torch.save({"state_dict": weights, "extra": Trap(tmp_path / "trace")}, tmp_path / "my.pt")
    assert "Python objects (" in refused(tmp_path / "my.pt")
    (tmp_path / "my.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "trace"), protocol=2))
    refused(tmp_path / "my.pkl")
    assert not (tmp_path / "trace").exists()


OTHER_FORMS = {
    "transformers": (
        {"text_model.embeddings.position_ids": torch.ones(1), "logit_scale": torch.ones(())},
        "transformers",
    ),
    "its image tower alone": ({"vision_model.post_layernorm.bias": torch.ones(3)}, "transformers"),
    "an adapter of peft": (
        {"base_model.model.visual.proj.lora_A.weight": torch.ones(2)},
        "a LoRA adapter",
    ),
    "an adapter of CLIP-LoRA": (
        {"weights": {"layer_0": {"q_proj": {"w_lora_A": torch.ones(2)}}}},
        "a LoRA adapter",
    ),
    "eight bits": (
        {"visual.proj": torch.ones(2, 2).to(torch.float8_e4m3fn)},
        "visual.proj in torch.float8_e4m3fn: three bits of precision or fewer",
    ),
    "an optimiser": ({"state": {0: {"step": 1}}, "param_groups": []}, "state of an optimiser"),
    "no weights": ({"epoch": 3, "optimizer": {}}, "dictionary without weights, with epoch, opt"),
    "nothing": ({}, "without weights, with no keys"),
    "a list": ([torch.ones(2)], "an object of type list"),
    "a tensor": (torch.ones(2), "an object of type Tensor"),
    "arguments": ({"args": argparse.Namespace(lr=0.1)}, "Python objects (argparse.Namespace)"),
    "a number of NumPy's": ({"best": np.float64(0.7)}, "Python objects (numpy."),
    "a whole model": (torch.nn.Linear(2, 2), "Python objects (torch.nn.modules.linear.Linear)"),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_any_other_form_is_refused_with_what_it_is_and_what_is_wanted(form, tmp_path):
    content, found = OTHER_FORMS[form]
    torch.save(content, tmp_path / "my.pt")
    message = refused(tmp_path / "my.pt")
    assert found in message.partition("found: ")[2]
    assert "expected: a state_dict as open_clip's CLIP has it" in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with b'version https://git-lfs"),
        (b"<!DOCTYPE html>", "begins with b'<!DOCTYPE html>'"),
        (b"\x80\x02}q\x00.", "one that PyTorch did not write"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_its_beginning(content, found, tmp_path):
    (tmp_path / "my.pt").write_bytes(content)
    assert found in refused(tmp_path / "my.pt")


def test_a_zip_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "my.npz", weights=np.ones(2))
    assert "a zip archive that is no checkpoint" in refused(tmp_path / "my.npz")


def test_weights_that_are_nowhere_are_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.pt")


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_file_that_is_cut_short_is_refused_as_damaged(save, weights, tmp_path):
    save(weights, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "my.safetensors").write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(tmp_path / "my.safetensors")


def test_a_flipped_bit_in_an_archive_is_seen_by_its_checksum(weights, tmp_path):
    torch.save(weights, tmp_path / "my.pt")
    content = bytearray((tmp_path / "my.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "my.pt").write_bytes(content)
    assert "the checksum of" in refused(tmp_path / "my.pt")


def test_weights_that_do_not_fit_are_told_in_one_error_with_five_of_them(weights, tmp_path):
    del weights["logit_scale"]
    weights["positional_embedding"] = torch.zeros(77, 64)  # of another length, nothing is resized
    weights["text_projection"] = weights["text_projection"].to(torch.int8)  # quantised
    torch.save(weights | {"adapter.weight": torch.ones(2)}, tmp_path / "my.pt")
    message = refused(tmp_path / "my.pt")
    assert "positional_embedding: expected [16, 64], found [77, 64]" in message
    assert "text_projection: expected [64, 64], found [64, 64] of torch.int8" in message
    assert "logit_scale: missing" in message
    assert "adapter.weight: not expected" in message
    torch.save({f"blocks.{number}": torch.ones(2) for number in range(20)}, tmp_path / "my.pt")
    message = refused(tmp_path / "my.pt")
    assert len(message.splitlines()) == 7
    assert message.splitlines()[-1].strip().startswith("and ")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_the_tensors_name(number, weights, tmp_path):
    weights["text_projection"][3, 4] = number
    save_file(weights, tmp_path / "my.safetensors")
    assert "text_projection has numbers" in refused(tmp_path / "my.safetensors")
    with pytest.raises(BackboneError, match="text_projection has numbers"):
        fetch_backbone(
            "glyph-clip", str(tmp_path / "my.safetensors"), tmp_path / "fetched.safetensors",
            architecture=ARCHITECTURE,
        )  # fmt: skip
    assert not (tmp_path / "fetched.safetensors").exists()


def test_nobody_is_told_that_weights_of_a_file_are_random(weights, tmp_path, caplog):
    torch.save(weights, tmp_path / "my.pt")
    with caplog.at_level(logging.WARNING):
        load(tmp_path / "my.pt")
    assert "Model initialized randomly" not in caplog.text
    assert logging.getLogger().isEnabledFor(logging.WARNING)
