import resource
from importlib.util import find_spec

import pytest
import torch

from tests.cli.conftest import add_calibration
from vtclip.__main__ import main
from vtclip.files import check_seal
from vtclip.inference.classifier import load_classifier
from vtclip.inference.onnx_export import export_onnx, trace
from vtclip.inference.saved import SavedError

RUNS = (
    "zero_shot/0shot-seed0",
    "linear_probe/1shot-seed1",
    "vt_clip/1shot-seed1",
    "clip_lora/1shot-seed1",
)
COCOOP = "mine/pets/cocoop/1shot-seed1"
needs_onnx = pytest.mark.skipif(
    not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript and onnxruntime are not all installed",
)


def pixels(classifier, number):
    size = classifier.backbone.image_size
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("run", RUNS)
def test_the_graph_gives_the_classifiers_probabilities_for_any_number_of_images(here, run):
    classifier = load_classifier(f"mine/pets/{run}")
    graph = trace(classifier).module()
    for number in (1, 5):
        images = pixels(classifier, number)
        (logits,) = graph(images)
        found = logits.softmax(dim=1)
        torch.testing.assert_close(
            found, classifier.logits(images).softmax(dim=1), atol=1e-4, rtol=0
        )


@needs_onnx
@pytest.mark.parametrize("run", RUNS)
def test_onnxruntime_gives_the_classifiers_probabilities(here, run):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["export", f"mine/pets/{run}", "graph.onnx", "--onnx"]) == 0
    check_seal("graph.onnx")
    classifier = load_classifier(f"mine/pets/{run}")
    images = pixels(classifier, 5)
    session = onnxruntime.InferenceSession("graph.onnx")
    (logits,) = session.run(["logits"], {"pixels": images.numpy()})
    found = torch.from_numpy(logits).softmax(dim=1)
    torch.testing.assert_close(found, classifier.logits(images).softmax(dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("asked", [(0.9, 0.05), (None, 0.05), (0.9, None)])
@pytest.mark.parametrize("form", ["pytorch", pytest.param("onnx", marks=needs_onnx)])
def test_the_graph_computes_the_classifiers_sets_and_refusals(here, form, asked):
    run = "mine/pets/linear_probe/1shot-seed1"
    add_calibration(here / "results/mine/heads/glyph-clip-mine/pets/linear_probe/1shot-seed1")
    classifier = load_classifier(run)
    rules, images = classifier.rules(*asked), pixels(classifier, 20)
    with torch.inference_mode():
        expected = [each for each in rules.apply(*classifier.evaluate(images)) if each is not None]
    if form == "pytorch":
        _, *found = trace(classifier, rules).module()(images)
    else:
        options = {"--coverage": asked[0], "--refuse": asked[1]}
        given = [f"{name}={share}" for name, share in options.items() if share]
        assert main(["export", run, "graph.onnx", "--onnx", *given]) == 0
        session = pytest.importorskip("onnxruntime").InferenceSession("graph.onnx")
        _, *found = map(torch.from_numpy, session.run(None, {"pixels": images.numpy()}))
    assert len(found) == len(expected) == sum(share is not None for share in asked)
    assert all(map(torch.equal, found, expected))


def test_sets_are_no_option_of_a_file_that_has_the_whole_calibration(here, capsys):
    run = "mine/pets/vt_clip/1shot-seed1"
    assert main(["export", run, "a.safetensors", "--coverage", "0.9"]) == 2
    assert "--coverage and --refuse are for --onnx" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("onnx") is not None, reason="onnx is installed")
def test_without_onnx_installed_one_line_says_what_to_install(here, capsys):
    assert main(["export", "mine/pets/vt_clip/1shot-seed1", "graph.onnx", "--onnx"]) == 2
    assert capsys.readouterr().err == (
        "vtclip: --onnx needs onnx and onnxscript, not installed here: pip install 'vtclip[onnx]'\n"
    )


def test_a_head_that_makes_prompts_for_each_image_is_exported_but_for_a_graph(here, monkeypatch):
    alone, file = load_classifier(COCOOP), "exported.safetensors"
    assert main(["export", COCOOP, file, "--with-backbone"]) == 0
    images = pixels(alone, 3)
    exported = load_classifier(file)
    assert torch.equal(exported.logits(images), alone.logits(images))
    assert len(alone.logits(images).argmax(dim=1)) == 3
    monkeypatch.setattr("vtclip.inference.onnx_export.check_onnx", lambda: None)
    with pytest.raises(SavedError, match="--onnx: CoCoOp makes prompts for each image"):
        export_onnx(exported, "graph.onnx")


@pytest.mark.parametrize(
    ("file", "more", "expected"),
    [
        ("birds.txt", [], "ends in .safetensors, or --onnx and .onnx"),
        ("birds.onnx", [], "ends in .safetensors, or --onnx and .onnx"),
        ("birds.safetensors", ["--onnx"], "ends in .onnx"),
    ],
)
def test_a_file_whose_ending_is_of_another_form_is_refused(here, capsys, file, more, expected):
    assert main(["export", "mine/pets/vt_clip/1shot-seed1", file, *more]) == 2
    assert expected in capsys.readouterr().err
    assert not (here / file).exists()


@pytest.mark.parametrize("file", ["results", "/dev/full"])
def test_a_folder_or_a_device_is_no_file_to_export_to(here, capsys, file):
    assert main(["export", "mine/pets/vt_clip/1shot-seed1", file]) == 2
    assert "expected the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--with-backbone"]])
def test_a_write_that_fails_is_one_line_and_leaves_nothing(here, capsys, more):
    before = sorted(here.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # as a disk that becomes full
    try:
        status = main(["export", "mine/pets/vt_clip/1shot-seed1", "pets.safetensors", *more])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("vtclip: pets.safetensors: it cannot be written: ")
    assert sorted(here.iterdir()) == before


def test_a_backbone_too_large_for_one_graph_is_refused(here, monkeypatch):
    monkeypatch.setattr("vtclip.inference.onnx_export.check_onnx", lambda: None)
    monkeypatch.setattr("vtclip.inference.onnx_export.LARGEST", 1000)
    with pytest.raises(SavedError, match="Use --with-backbone"):
        export_onnx(load_classifier("mine/pets/vt_clip/1shot-seed1"), "graph.onnx")


def test_help_names_every_command_and_each_has_examples(capsys):
    for arguments in (["--help"], ["classify", "--help"], ["export", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert "classify" in said if len(arguments) == 1 else "examples:" in said
