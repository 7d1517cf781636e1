import subprocess
import sys
from dataclasses import replace

import joblib
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vtclip.methods import METHODS, check_methods
from vtclip.methods.base import Images, Recipe, Shots, Task, Texts
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


def test_the_linear_probe_keeps_the_regularisation_that_is_best_on_validation_shots(task):
    settings = LinearProbeSettings(inverse_regularisation=[1e-4, 1.0, 1e4])
    chosen = LinearProbe(settings).start(task)
    scores = {}
    for strength in settings.inverse_regularisation:
        only = LinearProbe(LinearProbeSettings(inverse_regularisation=[strength]))
        logits = only.classifier(only.start(task), task.texts)(Images(task.val.pooled[:, 0], None))
        scores[strength] = (logits.argmax(1) == task.val.labels).float().mean().item()
    best = max(scores, key=scores.get)
    assert chosen["inverse_regularisation"].item() == pytest.approx(best)


def test_the_linear_probe_separates_its_own_shots(task):
    probe = LinearProbe(LinearProbeSettings(inverse_regularisation=[1e6]))
    logits = probe.classifier(probe.start(task), task.texts)(Images(task.train.pooled[:, 0], None))
    assert torch.equal(logits.argmax(1), task.train.labels)


def test_vt_clips_start_depends_on_the_seed_alone(task):
    method = VTClip(VTClipSettings())
    first = method.start(task)
    torch.rand(5)
    again = method.start(task)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_vt_clips_head_comes_back_from_its_tensors(task):
    method = VTClip(VTClipSettings(blocks=2, feed_forward=2.0))
    head = {name: tensor + 0.1 for name, tensor in method.start(task).items()}
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    logits = method.classifier(head, task.texts)(images)
    zero_shot = ZeroShot(Settings()).classifier({}, task.texts)(images)
    assert not torch.allclose(logits, zero_shot, atol=0.1)
    assert torch.equal(method.classifier(head, task.texts)(images), logits)


def test_an_unknown_method_is_a_named_failure():
    with pytest.raises(ConfigError, match="Unknown method 'x'; known: .*zero_shot"):
        METHODS["x"]


def test_every_registered_method_is_a_method_with_settings():
    for name, method in METHODS.items():
        assert method.settings_type(), name


def test_naming_the_methods_and_their_settings_does_not_import_torch():
    code = (
        "import sys; from vtclip.methods import METHODS; "
        "[m.settings_type() for m in METHODS.values()]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("shots", "epochs"), [(1, 50), (2, 100), (4, 100), (8, 200), (32, 200)])
def test_epochs_follow_the_number_of_shots_as_coops_do(shots, epochs):
    assert Recipe().epochs_at(shots) == epochs


def test_one_number_of_epochs_holds_for_all_shots():
    assert Recipe(epochs=7).epochs_at(16) == 7


def test_a_dataset_may_have_epochs_of_its_own():
    recipe = Recipe(epochs={1: 5, 4: 9}, epochs_of={"imagenet": 2, "dtd": {1: 3, 8: 4}})
    assert recipe.for_dataset("imagenet").epochs_at(16) == 2
    assert recipe.for_dataset("dtd").epochs_at(16) == 4
    assert recipe.for_dataset("digits").epochs_at(16) == 9


def test_another_datasets_epochs_do_not_change_a_datasets_settings():
    before, after = Recipe(), Recipe(epochs_of={"imagenet": 7})
    assert before.for_dataset("digits") == after.for_dataset("digits")
    assert before.for_dataset("imagenet") != after.for_dataset("imagenet")


@pytest.mark.parametrize("epochs", [0, {}, {1: 0}, {0: 5}, "many"])
def test_epochs_that_cannot_be_are_refused(epochs):
    with pytest.raises(ConfigError, match="epochs"):
        check_methods({"vt_clip": {"epochs": epochs}}, source="mine.yaml")


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
    ],
)
def test_a_wrong_method_setting_or_value_is_one_clear_error(methods, parts):
    with pytest.raises(ConfigError) as error:
        check_methods(methods, source="mine.yaml")
    for part in ["mine.yaml", *parts]:
        assert part in str(error.value)


def test_methods_come_in_the_registrys_order_whatever_the_configurations():
    assert list(check_methods({"vt_clip": None, "zero_shot": None}, source="")) == [
        "zero_shot", "vt_clip",
    ]  # fmt: skip


def test_a_method_of_the_joint_space_refuses_raw_spatial_features_before_any_job():
    check_methods({"calip": None}, source="mine.yaml", spatial="projected")
    with pytest.raises(
        ConfigError, match=r"(?s)calip.*found:    spatial: raw.*spatial: projected"
    ) as e:
        check_methods({"calip": None}, source="mine.yaml", spatial="raw")
    assert "mine.yaml" in str(e.value)


def test_a_linear_probe_of_two_classes_and_one_with_an_absent_class_keep_their_labels(task):
    method = LinearProbe(LinearProbeSettings(inverse_regularisation=[1e6]))
    for kept in ([1, 3], [0, 2, 3]):
        rows = torch.isin(task.train.labels, torch.tensor(kept))
        train = replace(task.train, pooled=task.train.pooled[rows], labels=task.train.labels[rows])
        head = method.start(replace(task, train=train))
        logits = method.classifier(head, task.texts)(Images(train.pooled[:, 0], None))
        assert logits.shape == (len(train.labels), 4)
        assert torch.equal(logits.argmax(1), train.labels)


def test_a_two_class_probe_is_as_sure_as_scikit_learn_says(task):
    rows = task.train.labels < 2
    train = replace(task.train, pooled=task.train.pooled[rows], labels=task.train.labels[rows])
    texts = replace(task.texts, features=task.texts.features[:2])
    val = replace(task.val, pooled=task.val.pooled[rows], labels=task.val.labels[rows])
    method = LinearProbe(LinearProbeSettings(inverse_regularisation=[1.0]))
    head = method.start(replace(task, texts=texts, train=train, val=val))
    logits = method.classifier(head, texts)(Images(train.pooled[:, 0], None))
    unit = torch.nn.functional.normalize(train.pooled[:, 0], dim=-1).numpy()
    sklearns = LogisticRegression(C=1.0, max_iter=1000).fit(unit, train.labels.numpy())
    expected = torch.from_numpy(sklearns.predict_proba(unit)).float()
    torch.testing.assert_close(logits.softmax(1), expected, rtol=0, atol=1e-4)


def test_the_linear_probe_fits_on_all_its_threads_to_the_same_bits(task, monkeypatch):
    asked, real = [], joblib.Parallel

    def parallel(n_jobs, **options):
        asked.append(n_jobs)
        return real(n_jobs, **options)

    monkeypatch.setattr(joblib, "Parallel", parallel)
    probe, before, heads = LinearProbe(LinearProbeSettings()), torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        heads.append(probe.start(task))
    torch.set_num_threads(before)
    assert asked == [1, 3]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_the_linear_probe_learns_a_thousand_classes():
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(1000, 256, generator=generator).sign()
    labels = torch.arange(1000).repeat(2)
    images = texts[labels] + 0.1 * torch.randn(2000, 256, generator=generator)
    shots = Shots(images[:, None], None, labels)
    probe = LinearProbe(LinearProbeSettings(inverse_regularisation=[1e3]))
    task = Task(Texts(texts, 100.0), shots, shots, seed=0)
    logits = probe.classifier(probe.start(task), task.texts)(Images(images, None))
    assert (logits.argmax(1) == labels).all()
    assert (logits.softmax(1).amax(1) > 0.5).float().mean() > 0.9
