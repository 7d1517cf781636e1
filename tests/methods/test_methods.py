import math
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vtclip.cost import Shape
from vtclip.methods import METHODS, check_methods, check_spatial
from vtclip.methods.base import DasslRecipe, Images, Recipe, Samples, Task, Texts
from vtclip.methods.linear_probe import LinearProbe, LinearProbeSettings
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.methods.zero_shot import ZeroShot
from vtclip.settings import ConfigError, Settings


def test_zero_shot_is_the_scaled_cosine_computed_pair_by_pair(task):
    images = Images(task.val.pooled[:, 0], None)
    logits = ZeroShot(Settings()).classifier({}, task.texts)(images)
    for image, row in zip(images.pooled, logits, strict=True):
        for text, logit in zip(task.texts.features, row, strict=True):
            cosine = (image @ text) / (image.norm() * text.norm())
            assert logit.item() == pytest.approx(100 * cosine.item(), abs=1e-3)


def test_vt_clips_head_comes_back_from_its_tensors(task):
    method = VTClip(VTClipSettings(blocks=2, feed_forward=2.0))
    head = {name: tensor + 0.1 for name, tensor in method.initial_head(task).items()}
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    logits = method.classifier(head, task.texts)(images)
    zero_shot = ZeroShot(Settings()).classifier({}, task.texts)(images)
    assert not torch.allclose(logits, zero_shot, atol=0.1)
    assert torch.equal(method.classifier(head, task.texts)(images), logits)


def test_an_unknown_method_is_a_named_failure():
    with pytest.raises(ConfigError, match="Unknown method 'x'; known: .*zero_shot"):
        METHODS["x"]


def test_a_dataset_may_have_epochs_of_its_own():
    recipe = Recipe(epochs={1: 5, 4: 9}, epochs_of={"imagenet": 2, "dtd": {1: 3, 8: 4}})
    assert recipe.for_dataset("imagenet").epochs_at(16) == 2
    assert recipe.for_dataset("dtd").epochs_at(16) == 4
    assert recipe.for_dataset("digits").epochs_at(16) == 9


def test_another_datasets_epochs_do_not_change_a_datasets_settings():
    before, after = Recipe(), Recipe(epochs_of={"imagenet": 7})
    assert before.for_dataset("digits") == after.for_dataset("digits")
    assert before.for_dataset("imagenet") != after.for_dataset("imagenet")


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({}, 50),  # CoOp's
        ({"epochs": 5}, 5),
        ({"epochs": {1: 5, 16: 7}}, 7),
        ({"epochs_of": {"imagenet": 3}}, 3),
        ({"epochs": 5, "epochs_of": {"imagenet": 3}}, 3),
        ({"epochs": 5, "epochs_of": {"imagenet": 50}}, 50),  # the default, but written down
        ({"epochs_of": {}}, 200),
    ],
)
def test_on_imagenet_ones_own_epochs_outdo_the_default_of_epochs_of(settings, epochs):
    checked = check_methods({"vt_clip": settings}, source="")["vt_clip"]
    resolved = checked.for_dataset("imagenet")
    assert resolved.epochs_at(16) == epochs
    assert resolved.for_dataset("imagenet") == resolved
    read_again = type(resolved).model_validate(resolved.model_dump(mode="json"))
    assert read_again.for_dataset("imagenet").epochs_at(16) == epochs


@pytest.mark.parametrize(
    ("images", "batches"), [(1, 1), (255, 1), (256, 1), (257, 1), (511, 1), (512, 2), (1000, 3)]
)
def test_methods_of_dassls_drop_an_epochs_short_batch_unless_it_is_the_only_one(images, batches):
    assert DasslRecipe(batch_size=256).steps_per_epoch(images) == batches


@pytest.mark.parametrize(
    ("methods", "parts"),
    [
        ({"tip_adaptor": None}, ["methods", "'tip_adaptor'", "Did you mean 'tip_adapter'"]),
        ({"tip_adapter": {"alfa": [1]}}, ["methods.tip_adapter: alfa", "alpha", "write:"]),
        (
            {"clip_adapter": {"ratio": 1.5}},
            ["ratio", "found:    ratio: 1.5", "0 to 1"],
        ),
        ({"coop": {"context": 0}}, ["coop: context", "found:    context: 0", "1 or more"]),
        ({"calip": {"sharpness": -1}}, ["calip: sharpness", "above 0"]),
        ({"tip_adapter_f": {"beta": []}}, ["tip_adapter_f: beta", "above 0"]),
        ({"linear_probe": {"inverse_regularisation": [1, -5]}}, ["above 0", "write:"]),
        ({"linear_probe": {"inverse_regularisation": [0]}}, ["greater than 0"]),
        ({"linear_probe": {"inverse_regularisation": [math.inf]}}, ["finite"]),
        ({"tip_adapter": {"alpha": [math.nan]}}, ["finite"]),
        ({"calip": {"text_weight": math.inf}}, ["finite", "0 or more"]),
        ({"coop": {"learning_rate": math.inf}}, ["finite", "learning_rate: 0.002"]),
        ({"gda": {"alpha": []}}, ["gda: alpha", "0 or more", "alpha: [0.1, 1.0, 10.0]"]),
        ({"proker": {"ridge": [0]}}, ["proker: ridge", "above 0", "ridge: [0.05, 0.1]"]),
        ({"lp_plus_plus": {"select": "best"}}, ["lp_plus_plus: select", "select: val"]),
        ({"cross_modal": {"batch_size": [1]}}, ["cross_modal: batch_size", "2 or more"]),
        ({"cross_modal": {"text_share": 1.5}}, ["text_share", "0 to 1"]),
        ({"coop": {"words": "  "}}, ["coop: words", "write:", "words: a photo of a"]),
        ({"vt_clip": {"feed_forward": math.inf}}, ["finite", "feed_forward: 4.0"]),
        ({"vt_clip": {"residual_weight": math.nan}}, ["finite", "residual_weight: 1.0"]),
        ({"vt_clip": {"clip_gradient": math.inf}}, ["finite", "clip_gradient: 1.0"]),
        ({"vt_clip": {"epsilon": math.inf}}, ["finite"]),
        ({"vt_clip": {"weight_decay": math.inf}}, ["finite"]),
        *(({"vt_clip": {"epochs": each}}, ["epochs"]) for each in (0, {}, {1: 0}, {0: 5}, "many")),
    ],
)
def test_a_wrong_method_setting_or_value_is_one_clear_error(methods, parts):
    with pytest.raises(ConfigError) as error:
        check_methods(methods, source="mine.yaml")
    for part in ["mine.yaml", *parts]:
        assert part in str(error.value)


def test_methods_come_in_the_configurations_order():
    for names in (["vt_clip", "zero_shot", "coop"], ["coop", "vt_clip", "zero_shot"]):
        assert list(check_methods(dict.fromkeys(names), source="")) == names


def test_a_method_of_the_joint_space_refuses_raw_spatial_features_before_any_job():
    check_spatial("calip", "projected", source="mine.yaml")
    with pytest.raises(
        ConfigError, match=r"(?s)calip.*found:    spatial: raw.*spatial: projected"
    ) as e:
        check_spatial("calip", "raw", source="mine.yaml")
    assert "mine.yaml" in str(e.value)


def test_a_linear_probe_of_two_classes_and_one_with_an_absent_class_keep_their_labels(task):
    method = LinearProbe(LinearProbeSettings(inverse_regularisation=[1e6]))
    for kept in ([1, 3], [0, 2, 3]):
        rows = torch.isin(task.train.labels, torch.tensor(kept))
        train = replace(task.train, pooled=task.train.pooled[rows], labels=task.train.labels[rows])
        head = method.initial_head(replace(task, train=train))
        logits = method.classifier(head, task.texts)(Images(train.pooled[:, 0], None))
        assert logits.shape == (len(train.labels), 4)
        assert torch.equal(logits.argmax(1), train.labels)


@pytest.mark.parametrize(
    ("classes", "strengths"),
    [
        (2, [1.0]),
        # With little regularisation alone the shots are separated, so the second fit is chosen: it
        # starts where the first ended.
        (4, [1e-2, 1e3]),
    ],
)
def test_a_linear_probe_is_as_sure_as_scikit_learn_says(classes, strengths):
    generator = torch.Generator().manual_seed(0)
    images = 5 + torch.randn(60, 64, generator=generator)  # far from the origin, as CLIP's are
    shots = Samples(images[:, None], None, torch.arange(60) % classes)
    texts = Texts(torch.randn(classes, 64, generator=generator), 100.0)
    method = LinearProbe(LinearProbeSettings(inverse_regularisation=strengths))
    head = method.initial_head(Task(texts, shots, shots, seed=0))
    assert head["inverse_regularisation"] == strengths[-1]
    unit = torch.nn.functional.normalize(images.double(), dim=-1).numpy()
    alone = LogisticRegression(C=strengths[-1], max_iter=10_000, tol=1e-9)
    expected = alone.fit(unit, shots.labels.numpy()).predict_proba(unit)
    found = method.classifier(head, texts)(Images(images, None)).softmax(1)
    # The probe's tolerance leaves an error in the probabilities: 1e-4 on some processors.
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=0, atol=2e-3)


def test_a_linear_probe_of_images_that_are_all_alike_is_finite():
    shots = Samples(torch.ones(4, 1, 8), None, torch.tensor([0, 0, 0, 1]))
    method, texts = LinearProbe(LinearProbeSettings()), Texts(torch.eye(2, 8), 100.0)
    logits = method.classifier(method.initial_head(Task(texts, shots, shots, seed=0)), texts)(
        Images(torch.ones(1, 8), None)
    )
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.75, 0.25]]), rtol=0, atol=1e-3)


def test_the_linear_probe_fits_on_any_number_of_threads_to_the_same_bits(task):
    probe, before, heads = LinearProbe(LinearProbeSettings()), torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        heads.append(probe.initial_head(task))
    torch.set_num_threads(before)
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_the_linear_probe_learns_many_classes():
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(300, 256, generator=generator).sign()
    labels = torch.arange(300).repeat(2)
    images = texts[labels] + 0.1 * torch.randn(600, 256, generator=generator)
    shots = Samples(images[:, None], None, labels)
    probe = LinearProbe(LinearProbeSettings(inverse_regularisation=[1e3]))
    task = Task(Texts(texts, 100.0), shots, shots, seed=0)
    logits = probe.classifier(probe.initial_head(task), task.texts)(Images(images, None))
    assert (logits.argmax(1) == labels).all()
    assert (logits.softmax(1).amax(1) > 0.5).float().mean() > 0.9


GLYPHS = Shape(5, 64, 64, context_length=16)


def check_fits(method, shape=GLYPHS, **settings):
    checked = check_methods({method: settings}, source="mine.yaml")[method]
    METHODS[method](checked).check(shape)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("vt_clip", {}),
        ("vt_clip", {"heads": 1, "feed_forward": 0}),
        ("vt_clip", {"heads": 64, "feed_forward": 1 / 64}),
        ("coop", {"context": 12}),
        ("coop", {"words": "a photo of a"}),  # whatever `context` is: words come in its place
        ("clip_adapter", {"reduction": 10_000}),
        ("linear_probe", {}),
        ("zero_shot", {}),
    ],
)
def test_settings_that_go_with_the_backbone_pass(method, settings):
    check_fits(method, **settings)


@pytest.mark.parametrize(
    ("method", "settings", "lines"),
    [
        (
            "vt_clip",
            {"heads": 7},
            ["heads: it does not divide the features' width 64.", "  found:    heads: 7",
             "  expected: a divisor of 64, such as 2, 4, 8", "  write:", "    heads: 8"],
        ),
        ("vt_clip", {"heads": 100}, ["  expected: a divisor of 64, such as 16, 32, 64"]),
        (
            "vt_clip",
            {"feed_forward": 0.001},
            ["  found:    feed_forward: 0.001", "  expected: 0 for none, or 1 / 64 and more",
             "    feed_forward: 4.0"],
        ),
        (
            "coop",
            {},
            ["context: 16 words before a class name make 20 tokens or more, and the text tower "
             "reads 16.", "  found:    context: 16", "  write:", "    context: 12"],
        ),
        (
            "coop",
            {"words": "a b c d e f g h i j k l m"},
            ["  expected: 12 words at most", "    words: a b c d e f g h i j k l"],
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_with_the_backbone_are_refused_with_some_that_do(
    method, settings, lines
):
    with pytest.raises(ConfigError) as error:
        check_fits(method, **settings)
    said = str(error.value).splitlines()
    assert [line for line in lines if line not in said] == []
    assert "mine.yaml" not in str(error.value), "the caller knows the file"


def test_the_modules_of_settings_that_pass_can_be_built(task):
    """Of all small numbers of heads, those that the check lets pass are those that can be."""
    shape = Shape(5, 16, 16)
    for heads in range(1, 18):
        method = VTClip(VTClipSettings(heads=heads))
        try:
            method.check(shape)
        except ConfigError:
            with pytest.raises(ValueError, match="divisor"):
                method.initial_head(task)
        else:
            method.initial_head(task)
