import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods.by_hand import NAMES, encode_by_hand
from vtclip.methods.base import Images
from vtclip.methods.prograd import ProGrad, ProGradSettings, remove_conflict
from vtclip.settings import ConfigError, check
from vtclip.training.optimise import optimise

PETS = "a type of pet, a photo of a"


def learner_of(prompted, **settings):
    method = ProGrad(ProGradSettings(**settings))
    return method.learner(method.initial_head(prompted), prompted)


def project(own, general, share):
    """The published rule, on lists of numbers."""
    product = sum(a * b for a, b in zip(own, general, strict=True))
    length = sum(b * b for b in general) ** 0.5
    if product >= 0:
        return list(own)
    return [a - share * product / length * b / length for a, b in zip(own, general, strict=True)]


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_a_conflicting_gradient_loses_its_part_against_the_other_and_another_stays(share):
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    other = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    against = other if (own * other).sum() < 0 else -other
    changed = remove_conflict(own, against, share)
    expected = project(own.flatten().tolist(), against.flatten().tolist(), share)
    np.testing.assert_allclose(changed.flatten(), expected, rtol=1e-12)
    left = (changed * against).sum() / (own * against).sum()
    assert left.item() == pytest.approx(1 - share, abs=1e-12)
    assert torch.equal(remove_conflict(own, -against, share), own)
    assert torch.equal(remove_conflict(own, torch.zeros_like(own), share), own)


@pytest.mark.parametrize("conflict", [False, True])
def test_a_steps_gradient_is_that_of_both_losses_in_double_precision(prompted, backbone, conflict):
    learner = learner_of(prompted, words="one two", context=2)
    pooled = prompted.train.pooled[:, 0]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # away from zero-shot's own words, where its gradient is none
        learner.context += 0.02 * torch.randn(2, 64, generator=generator)
    written = backbone.encode_classes(NAMES, ["one two {}."]).double()
    units = pooled.double() / pooled.double().norm(dim=1, keepdim=True)
    zero_shot = (100 * units @ written.T).softmax(dim=1)
    context = learner.context.detach().double().requires_grad_()
    log_p = (100 * units @ encode_by_hand(backbone, context, NAMES).T).log_softmax(dim=1)

    def gradient_of(targets):
        loss = -sum(
            targets[i][k] * log_p[i, k] for i in range(len(pooled)) for k in range(len(NAMES))
        )
        (found,) = torch.autograd.grad(loss / len(pooled), context, retain_graph=True)
        return found

    general = gradient_of(zero_shot)

    def along(term):
        (found,) = torch.autograd.grad(-term, context, retain_graph=True)
        return (found * general).sum()

    # Of each image the gradients of -log p, weighted by p, add up to 0: with one class they go
    # against zero-shot's, and with another along with it.
    inner = torch.stack([torch.stack([along(term) for term in row]) for row in log_p])
    labels = inner.argmin(dim=1) if conflict else inner.argmax(dim=1)
    own = gradient_of(torch.eye(len(NAMES))[labels])
    assert ((own * general).sum() < 0) == conflict
    cross_entropy(learner(Images(pooled, None)), labels).backward()
    expected = project(own.flatten().tolist(), general.flatten().tolist(), 1.0)
    np.testing.assert_allclose(
        learner.context.grad.flatten(), expected, rtol=0, atol=1e-3 * own.abs().max().item()
    )


def test_compiling_is_refused_because_a_step_goes_back_twice():
    with pytest.raises(ConfigError, match="(?s)compile.*found:    compile: true.*compile: false"):
        check(ProGradSettings, {"compile": True}, source="mine.yaml")


def test_the_words_stand_at_the_end_of_sixteen_as_spaces_count_them(prompted):
    """Their comma is a token more: the last one then stands after the learned ones."""
    head = ProGrad(ProGradSettings(words=PETS)).initial_head(prompted)
    words = prompted.prompts.tower.embed_words(PETS)  # (9, width)
    assert (len(words), len(head["context"]), len(head["fixed"])) == (9, 16, 1)
    assert not head["context"][:8].any()
    assert torch.equal(torch.cat([head["context"][8:], head["fixed"]]), words)


def test_the_fixed_word_stays_and_is_kept_with_the_learned_ones(prompted, images):
    method = ProGrad(ProGradSettings(words="a photo of a", context=3, epochs=2))
    head = method.initial_head(prompted)
    learner = method.learner(head, prompted)
    expected = prompted.texts.logits(images.pooled)
    torch.testing.assert_close(learner(images), expected, rtol=0, atol=1e-3)
    optimise(learner, prompted, method.settings)
    finished = method.finish(learner, prompted)
    assert finished["context"].shape == (4, 64)
    assert torch.equal(finished["context"][3:], head["fixed"])
    assert not torch.equal(finished["context"][:3], head["context"])
    logits = method.classifier(finished, prompted.texts)(images)
    torch.testing.assert_close(logits, learner(images), rtol=0, atol=1e-3)
