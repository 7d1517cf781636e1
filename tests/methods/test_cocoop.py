import pytest
import torch

from tests.methods.by_hand import NAMES, encode_by_hand
from vtclip.cost import Shape, Size, prediction_minutes
from vtclip.methods.base import Prompts, Task, Texts
from vtclip.methods.cocoop import CoCoOp, CoCoOpSettings

METHOD = CoCoOp(CoCoOpSettings())


def logits_by_hand(backbone, head, images):
    """In double precision, an image and a prompt at a time."""
    rows = []
    for image in images.pooled.double():
        unit = image / image.norm()
        hidden = (head["inner"] @ unit + head["inner_bias"]).clamp(min=0)
        shift = head["outer"] @ hidden + head["outer_bias"]
        texts = encode_by_hand(backbone, head["context"] + shift, NAMES)
        rows.append(torch.stack([100 * unit @ text for text in texts]))
    return torch.stack(rows)


def test_logits_and_gradients_are_those_of_each_images_prompts_one_by_one(
    prompted, images, backbone
):
    head = METHOD.initial_head(prompted)
    learner = METHOD.learner(head, prompted)
    assert [name for name, _ in learner.named_parameters()] == [*METHOD.trained]
    double = {name: tensor.double().requires_grad_() for name, tensor in head.items()}
    expected = logits_by_hand(backbone, double, images)
    logits = learner(images)
    predicted = METHOD.classifier(head, prompted.texts)(images)
    for found in (logits, predicted):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-3)
    for made in (logits, expected):
        torch.nn.functional.cross_entropy(made, prompted.val.labels).backward()
    for name, tensor in double.items():
        found, most = learner.get_parameter(name).grad.double(), tensor.grad.abs().max().item()
        torch.testing.assert_close(found, tensor.grad, rtol=0, atol=1e-3 * most)


def test_on_vit_b_16_it_learns_35_360_numbers():
    class Tower:
        def embed_words(self, words):
            return torch.zeros(len(words.split()), 512)

    texts = Texts(torch.eye(3, 512), 100.0)
    task = Task(texts, None, None, 1, Prompts(NAMES[:3], Tower()))
    assert sum(tensor.numel() for tensor in METHOD.initial_head(task).values()) == 35_360


def test_a_head_names_other_classes_with_its_own_words_and_net(prompted, images):
    head = METHOD.initial_head(prompted)
    others = Prompts(["dog", "ant"], prompted.prompts.tower)
    assert METHOD.for_classes(head, others) is head
    texts = Texts(prompted.texts.features[[3, 0]], 100.0, made_of=others)
    logits = METHOD.classifier(head, texts)(images)
    expected = METHOD.classifier(head, prompted.texts)(images)[:, [3, 0]]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)


def test_the_plan_knows_that_an_image_costs_as_many_prompts_as_there_are_classes():
    size = Size(Shape(50, 512, 512, prompt_flops=2e9), classes=100, shots=16, images=1600, views=5)
    work = METHOD.work(size)
    assert work.predict_flops == 100 * 1e9
    assert work.flops == pytest.approx(1.6e6 * 2e9, rel=0.2)
    minutes = prediction_minutes(work, images=2465, heads=3, on_gpu=False)
    assert minutes == pytest.approx(2465 * 3 * 100 * 1e9 / 2e10 / 60, abs=11)
