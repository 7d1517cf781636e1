import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vtclip.nn.chunks import CPU_CHUNK, FLOAT, in_chunks, memory_for_pairs, plan_chunks
from vtclip.nn.visual_guided import VisualGuidedHead, VisualGuidedText
from vtclip.task import Images, Texts

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def plan(images=32, classes=100, memory=1 << 40, device=GPU, numbers=14 * 1024):
    return plan_chunks(
        images, classes, numbers=numbers, products=6 * 1024, memory=memory, device=device
    )


def test_what_fits_into_memory_is_not_split():
    assert plan() == (100, "everything")


def test_the_classes_are_split_and_cheap_work_done_twice_before_products_are():
    everything = 32 * 100 * 14 * 1024 * FLOAT
    assert plan(memory=everything - 1) == (50, "products")
    assert plan(memory=everything // 3).keep == "nothing"


def test_on_a_cpu_chunks_stay_small_however_much_is_free():
    split = plan(device=CPU)
    assert split.keep == "products"
    assert 32 * split.classes * 14 * 1024 * FLOAT < 1.5 * CPU_CHUNK


@given(
    st.integers(1, 256), st.integers(1, 2000), st.integers(1, 1 << 36), st.sampled_from([CPU, GPU])
)
def test_a_chunk_takes_no_more_than_its_memory_or_it_is_one_class(images, classes, memory, device):
    split = plan(images, classes, memory, device)
    taken = images * split.classes * 14 * 1024 * FLOAT
    one_class = images * 14 * 1024 * FLOAT
    assert taken <= memory + one_class
    assert 1 <= split.classes <= classes


@pytest.mark.parametrize("keep", ["everything", "products", "nothing"])
def test_chunks_come_back_in_their_order(keep):
    texts = torch.arange(14.0).reshape(1, 7, 2).requires_grad_()
    split = plan()._replace(classes=3, keep=keep)
    doubled = in_chunks(
        lambda chunk, factor: chunk * factor, texts, torch.tensor(2.0), chunks=split
    )
    assert torch.equal(doubled, 2 * texts)
    doubled.sum().backward()
    assert torch.equal(texts.grad, torch.full((1, 7, 2), 2.0))


def test_memory_for_pairs_is_a_power_of_two_within_a_quarter_of_what_is_free(monkeypatch):
    for free in (1000, 1023, 1_000_000_007):
        monkeypatch.setattr("vtclip.nn.chunks.free_memory", lambda device, free=free: free)
        memory = memory_for_pairs(CPU)
        assert free / 8 < memory <= free / 4
        assert memory.bit_count() == 1


# 4 images, 40 classes, 64 wide: all pairs together make 573 kB.
MEMORIES = {"everything": math.inf, "products": 280_000.0, "nothing": 100_000.0}


def gradient_of_a_step(keep: str) -> Tensor:
    """Of VT-CLIP's weights, with chunks that keep so much for the backward pass."""
    torch.manual_seed(0)
    texts = Texts(F.normalize(torch.randn(40, 64), dim=-1), 30.0)
    guide = VisualGuidedText(64, blocks=2, memory=MEMORIES[keep])
    for weight in guide.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    spatial = torch.randn(4, 5, 64)
    assert guide._plan(texts.features, spatial).keep == keep
    logits = VisualGuidedHead(guide, texts)(Images(torch.randn(4, 64), spatial))
    F.cross_entropy(logits, torch.arange(4)).backward()
    return torch.cat([weight.grad.flatten() for weight in guide.parameters()])


@pytest.mark.parametrize("keep", MEMORIES)
def test_a_step_in_bfloat16_gives_the_same_gradient_however_the_classes_are_split(
    keep, monkeypatch
):
    exact = gradient_of_a_step("everything")
    monkeypatch.setattr("vtclip.runtime.devices.has_bfloat16", lambda device: True)
    rough = gradient_of_a_step(keep)
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.05 * exact.norm()
    assert (rough - gradient_of_a_step("everything")).norm() < 0.02 * exact.norm()
