import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtclip.nn.chunks import CPU_CHUNK, FLOAT, in_chunks, memory_for_pairs, plan_chunks

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
