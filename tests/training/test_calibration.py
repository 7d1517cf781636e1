import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import train
from vtclip.task import Samples
from vtclip.tensors import read_calibration, read_head
from vtclip.training.calibration import (
    Calibration,
    CalibrationError,
    class_centres,
    fit_temperature,
    images_needed,
    nearest,
)


def draw(images, classes=4, seed=0, sharpness=1.0):
    """Logits whose softmax at this temperature is the labels' own distribution."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator)
    labels = logits.softmax(dim=1).multinomial(1, generator=generator)[:, 0]
    return sharpness * logits, labels


def fit(images, seed=0, classes=4):
    logits, labels = draw(images, classes, seed)
    distances = torch.rand(images, generator=torch.Generator().manual_seed(seed))
    return Calibration.fit(logits, labels, distances, torch.eye(classes))


def test_the_temperature_undoes_what_makes_logits_too_sharp():
    assert fit_temperature(*draw(5000, sharpness=3.0)).item() == pytest.approx(3.0, rel=0.05)


def test_few_images_that_are_all_classified_rightly_make_no_probability_one():
    labels = torch.arange(10) % 5
    logits = torch.eye(5)[labels]
    best = (logits / fit_temperature(logits, labels)).softmax(dim=1).amax(dim=1)
    assert 0.8 < best.max() < 0.95


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_contain_the_true_class_as_often_as_promised(by_class):
    hits, (logits, labels) = [], draw(2000, seed=1000)
    for seed in range(200):
        chosen, _ = fit(80, seed).rules(0.8, by_class=by_class).apply(logits, logits)
        hits.append(chosen[torch.arange(len(labels)), labels].float().mean())
    assert 0.8 <= torch.stack(hits).mean() < 0.83


def test_classes_with_few_images_share_a_threshold():
    labels = torch.tensor([0] * 12 + [1, 2] * 6)
    logits = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    calibration = Calibration.fit(logits, labels, torch.rand(24), torch.eye(3))
    first, second, third = calibration.thresholds(0.9, by_class=True).tolist()
    assert second == third != first
    assert torch.equal(calibration.thresholds(0.9), calibration.thresholds(0.9)[[0, 0, 0]])


def test_as_many_of_the_classes_own_images_are_refused_as_asked():
    generator = torch.Generator().manual_seed(1)
    eye, labels = torch.eye(3), torch.arange(3).repeat(200)
    near = eye[labels] + 0.3 * torch.randn(600, 3, generator=generator)
    calibration = Calibration.fit(eye[labels][::2], labels[::2], nearest(near[::2], eye), eye)
    rules = calibration.rules(refused=0.1)
    assert 0.05 < rules.refuse(near[1::2]).float().mean() < 0.15
    assert rules.refuse(-torch.ones(1, 3)).all()


def test_a_coverage_that_too_few_images_cannot_give_is_refused_with_the_largest_that_can_be():
    calibration = fit(8)
    assert images_needed(0.9) == 9
    message = "0.9 cannot be had: it takes 9 calibration images, and this head has 8.*0.888 at most"
    with pytest.raises(CalibrationError, match=message):
        calibration.thresholds(0.9)
    calibration.thresholds(0.888)
    with pytest.raises(CalibrationError, match="takes 19 calibration images"):
        calibration.limit(0.05)
    with pytest.raises(CalibrationError, match="between 0 and 1, found 90"):
        calibration.thresholds(90)


def test_centres_are_the_mean_directions_of_all_views_of_a_class():
    pooled = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[0.0, 5.0], [0.0, 1.0]]])
    centres = class_centres(Samples(pooled, None, torch.tensor([1, 0])), 2)
    torch.testing.assert_close(centres, torch.tensor([[0, 1], [0.5**0.5] * 2]), atol=1e-3, rtol=0)


def test_a_heads_file_contains_its_calibration_beside_its_own_tensors(on_disk):
    train(on_disk, "linear_probe")
    file = on_disk / "run" / "head.safetensors"
    head, calibration = read_head(file), Calibration.read(read_calibration(file))
    assert calibration is not None
    assert calibration.labels.tolist() == load_file(file)["calibration.labels"].tolist()
    assert len(calibration.scores) == len(calibration.distances) == 4
    assert not any(name.startswith("calibration") for name in head)


@pytest.mark.parametrize("options", [{"validation": False}, {"few_shot": False}])
def test_a_head_without_validation_shots_has_no_calibration(on_disk, options):
    train(on_disk, "zero_shot" if "few_shot" in options else "clap", {}, **options)
    assert Calibration.read(read_calibration(on_disk / "run" / "head.safetensors")) is None


def test_a_class_without_a_shot_leaves_the_refusals_of_the_others():
    pooled = torch.eye(3)[[0, 1], None]
    centres = class_centres(Samples(pooled, None, torch.tensor([0, 1])), 3)
    assert centres.equal(torch.eye(3)[[0, 1, 2]] * torch.tensor([[1.0], [1.0], [0.0]]))
