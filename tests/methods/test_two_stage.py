import open_clip
import pytest
import torch
from torch.nn import LayerNorm

from tests.methods.test_clip_lora import NAMES, TEMPLATE, given, of_pixels, pixels, to_learn_from
from vtclip.methods.two_stage import CLASSES, TwoStage, TwoStageSettings
from vtclip.nn.towers import Towers
from vtclip.task import Prompts, Task, Texts

__all__ = ["given", "pixels"]  # fixtures


def method(**settings):
    return TwoStage(TwoStageSettings(template=TEMPLATE, **settings))


def adapted(task):
    """The head of a first stage that changed every norm."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in method().initial_head(task).items()
    }


class FakeTowers(Towers):
    def __init__(self, model):
        self.weights = dict(model.named_parameters())
        self.norms = {name for name, part in model.named_modules() if isinstance(part, LayerNorm)}
        blocks = {"visual.transformer": "image", "transformer": "text"}
        self.attention = {
            tower: {f"{name}.resblocks.{i}.attn.qkv": None for i in range(12)}
            for name, tower in blocks.items()
        }


@pytest.mark.parametrize(("all_norms", "numbers"), [(False, 61_440), (True, 65_536)])
def test_vit_b_16_has_as_many_trained_norms_as_the_authors_code(all_norms, numbers):
    with torch.device("meta"):
        model = open_clip.create_model("ViT-B-16", load_weights=False, device="meta")
    texts = Texts(torch.eye(3), 100.0, made_of=Prompts(NAMES, FakeTowers(model)))
    head = method(all_norms=all_norms).initial_head(Task(texts, None, None, seed=1))
    assert sum(tensor.numel() for tensor in head.values()) == numbers


def test_the_first_stage_starts_from_zero_shot_and_trains_the_norms_alone(given, pixels):
    head = method().initial_head(given)
    learner = method().learner(head, given)
    logits = learner(to_learn_from(pixels))
    towers = given.texts.made_of.tower
    texts = towers.encode_prompts(NAMES, TEMPLATE, method().change({}, towers, training=False))
    plain = towers.encode_images(pixels, method().change({}, towers, training=False))
    expected = 100 * torch.nn.functional.normalize(plain, dim=-1) @ texts.T
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    assert all(parameter.grad.any() for parameter in learner.parameters())
    assert len(head) == 2 * 2 * (3 + 2)  # scale and shift of two norms a block


def test_the_second_stage_starts_where_the_first_ends_and_trains_the_vectors_alone(given, pixels):
    head = adapted(given)
    expected = method().classifier(head, given.texts)(of_pixels(pixels))
    learner, recipe = method().second_learner(head, given)
    logits = learner(to_learn_from(pixels))
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    assert [name for name, _ in learner.named_parameters()] == [CLASSES]
    assert learner.get_parameter(CLASSES).grad.any()
    assert (method().settings.steps_at(16, 1600), recipe.steps_at(16, 1600)) == (2880, 1920)


def test_a_class_without_a_vector_is_read_by_the_adapted_text_tower(given, pixels):
    head = adapted(given)
    learner, _ = method().second_learner(head, given)
    whole = learner.state_dict()
    whole[CLASSES] = whole[CLASSES] + 1.0
    seen = method().classifier(whole, given.texts)(of_pixels(pixels))
    other = method().for_classes(whole, given.prompts)
    read = method().classifier(other, given.texts)(of_pixels(pixels))
    torch.testing.assert_close(read, method().classifier(head, given.texts)(of_pixels(pixels)))
    assert not torch.allclose(seen, read, atol=0.1)
