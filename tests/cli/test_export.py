from importlib.util import find_spec

import pytest
import torch

from vtclip.__main__ import main
from vtclip.inference.classifier import load_classifier
from vtclip.inference.onnx_export import trace

RUNS = ("zero_shot/0shot-seed0", "linear_probe/1shot-seed1", "vt_clip/1shot-seed1")
ONNX = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def pixels(classifier, number):
    size = classifier.backbone.image_size
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("run", RUNS)
def test_the_graph_gives_the_classifiers_probabilities_for_any_number_of_images(here, run):
    classifier = load_classifier(f"mine/pets/{run}")
    graph = trace(classifier).module()
    for number in (1, 5):
        images = pixels(classifier, number)
        found = graph(images).softmax(dim=1)
        torch.testing.assert_close(
            found, classifier.logits(images).softmax(dim=1), atol=1e-4, rtol=0
        )


@pytest.mark.skipif(not ONNX, reason="onnx, onnxscript and onnxruntime are not all installed")
@pytest.mark.parametrize("run", RUNS)
def test_onnxruntime_gives_the_classifiers_probabilities(here, run):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["export", f"mine/pets/{run}", "graph.onnx", "--onnx"]) == 0
    classifier = load_classifier(f"mine/pets/{run}")
    images = pixels(classifier, 5)
    session = onnxruntime.InferenceSession("graph.onnx")
    (logits,) = session.run(["logits"], {"pixels": images.numpy()})
    found = torch.from_numpy(logits).softmax(dim=1)
    torch.testing.assert_close(found, classifier.logits(images).softmax(dim=1), atol=1e-4, rtol=0)


@pytest.mark.skipif(find_spec("onnx") is not None, reason="onnx is installed")
def test_without_onnx_installed_one_line_says_what_to_install(here, capsys):
    assert main(["export", "mine/pets/vt_clip/1shot-seed1", "graph.onnx", "--onnx"]) == 2
    assert capsys.readouterr().err == (
        "vtclip: --onnx needs onnx and onnxscript, not installed here: pip install 'vtclip[onnx]'\n"
    )


def test_a_folder_is_no_file_to_export_to(here, capsys):
    assert main(["export", "mine/pets/vt_clip/1shot-seed1", "results"]) == 2
    assert "expected the name of a file" in capsys.readouterr().err


def test_help_names_every_command_and_each_has_examples(capsys):
    for arguments in (["--help"], ["classify", "--help"], ["export", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert "classify" in said if len(arguments) == 1 else "examples:" in said
