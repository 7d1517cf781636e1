"""The requests of jobs, from the methods' own accounts of their work."""

import subprocess
import sys

import pytest

from tests.methods.short import short_method
from vtclip.cost import (
    PROCESS,
    RESERVE,
    SHARED_RESERVE,
    Shape,
    Size,
    Work,
    backbone_memory,
    copies_minutes,
    extraction_memory,
    extraction_minutes,
    features_bytes,
    is_short,
    prediction_memory,
    prediction_minutes,
    text_minutes,
    threads_to_decode,
    training_memory,
    training_minutes,
    training_threads,
    unpacking_minutes,
)
from vtclip.methods import METHODS
from vtclip.methods.base import Method


def text_tower(width, layers=12, tokens=12):
    """As `vtclip.backbones.shapes` counts a causal one."""
    weights = 12 * width**2 * layers
    return {
        "prompt_flops": 4.0 * weights * tokens,
        "text_weights": weights + 49408 * width,
        "context_length": 77,
    }


RN50 = Shape(50, 1024, 1024, **text_tower(512), image_flops=12.2e9, image_weights=38_300_000)
VIT_L_14 = Shape(257, 768, 768, **text_tower(768), image_flops=162e9, image_weights=303_600_000)
IMAGENET = Size(RN50, classes=1000, shots=16, images=16_000, views=5)
CALTECH = Size(RN50, classes=100, shots=16, images=1600, views=5)
DIGITS = Size(RN50, classes=10, shots=16, images=160, views=5)
TEST_IMAGES = {1000: 50_000, 100: 2465, 10: 8000}


def work(method, size, **settings):
    """A method's account, with the epochs of ImageNet for ImageNet."""
    chosen = METHODS[method].settings_type(**settings)
    dataset = "imagenet" if size.classes == 1000 else "other"
    return METHODS[method](chosen.for_dataset(dataset)).work(size)


@pytest.mark.parametrize("method", METHODS)
def test_more_classes_images_and_steps_ask_for_more(method):
    few, many = work(method, CALTECH), work(method, IMAGENET)
    for on_gpu in (True, False):
        assert training_minutes(few, on_gpu=on_gpu) <= training_minutes(many, on_gpu=on_gpu)
        requested = [
            prediction_minutes(done, images=TEST_IMAGES[size.classes], heads=15, on_gpu=on_gpu)
            for done, size in ((few, CALTECH), (many, IMAGENET))
        ]
        assert requested[0] <= requested[1]
    assert training_memory(CALTECH, few) <= training_memory(IMAGENET, many)
    assert prediction_memory(CALTECH, few, 15) <= prediction_memory(IMAGENET, many, 15)
    requested = [extraction_minutes(RN50, views, on_gpu=True) for views in (1000, 50_000)]
    assert requested[0] < requested[1]


def test_vt_clip_and_the_linear_probe_grow_with_what_they_are_given():
    for method, on_gpu in (("vt_clip", True), ("linear_probe", False)):
        few, many = work(method, CALTECH), work(method, IMAGENET)
        assert training_memory(CALTECH, few) < training_memory(IMAGENET, many)
        assert training_minutes(few, on_gpu=on_gpu) < training_minutes(many, on_gpu=on_gpu)


def test_a_method_that_reads_no_spatial_features_asks_for_little():
    for method in ("zero_shot", "clip_adapter", "tip_adapter", "tip_adapter_f"):
        little = work(method, IMAGENET)
        assert training_memory(IMAGENET, little) < 4000
        assert training_minutes(little, on_gpu=True) <= 10
        assert prediction_minutes(little, images=50_000, heads=15, on_gpu=True) <= 10


def test_a_method_that_learns_from_nothing_reads_no_row():
    size = IMAGENET._replace(shots=0, images=0)
    for method in ("zero_shot", "calip"):
        assert work(method, size).rows == 0
        assert training_memory(size, work(method, size)) == PROCESS
        assert training_minutes(work(method, size), on_gpu=False) == SHARED_RESERVE
    assert work("linear_probe", IMAGENET).rows == 16_000  # the test view alone
    assert work("vt_clip", IMAGENET).rows == 5 * 16_000


def test_coop_on_imagenet_gets_hours_and_memory_for_the_text_tower():
    coop = work("coop", IMAGENET)
    assert coop.flops == 25_000 * 1000 * RN50.prompt_flops
    assert 60 < training_minutes(coop, on_gpu=True) < 12 * 60
    assert training_memory(IMAGENET, coop) > backbone_memory(RN50)
    assert prediction_memory(IMAGENET, coop, 15) < backbone_memory(RN50)


def test_a_linear_probe_on_imagenet_gets_more_time_than_on_digits():
    assert training_minutes(work("linear_probe", DIGITS), on_gpu=False) <= 11
    assert training_minutes(work("linear_probe", IMAGENET), on_gpu=False) > 30


def test_a_long_linear_probe_gets_four_cores_and_what_its_fits_take_and_others_one():
    imagenet = work("linear_probe", IMAGENET)
    assert training_threads(imagenet, on_gpu=False) == 4
    alone, four = (training_minutes(imagenet, threads, on_gpu=False) for threads in (1, 4))
    assert four < alone
    # A fit at this size was seen to take 500 MB.
    assert training_memory(IMAGENET, imagenet, 4) > training_memory(IMAGENET, imagenet) + 3 * 500
    assert training_threads(work("linear_probe", DIGITS), on_gpu=False) == 1
    assert training_threads(work("vt_clip", IMAGENET), on_gpu=True) == 1


def test_a_fit_takes_as_long_as_its_longest_part_on_any_number_of_cores():
    strengths = [1.0, 2.0, 3.0, 4.0]  # two that start from nothing, each with a follower
    two = work("linear_probe", IMAGENET, inverse_regularisation=strengths, iterations=1000)
    assert two.parts == 2
    assert two.longest > two.flops / 2
    assert training_minutes(two, 2, on_gpu=False) == training_minutes(two, 64, on_gpu=False)


def test_a_method_of_cores_never_gets_a_gpus_minutes():
    probe = work("linear_probe", IMAGENET)
    assert training_minutes(probe, on_gpu=True) == training_minutes(probe, on_gpu=False)
    assert training_threads(probe, on_gpu=True) == 4
    assert not is_short(probe, on_gpu=True)


def test_a_fit_in_double_precision_gets_the_minutes_of_a_gpu_that_is_slow_in_it():
    proker = work("proker", IMAGENET)
    assert 5 < training_minutes(proker, on_gpu=True) < training_minutes(proker, on_gpu=False)
    assert training_minutes(proker._replace(double=False), on_gpu=True) == SHARED_RESERVE
    assert training_minutes(work("gda", IMAGENET), on_gpu=True) == SHARED_RESERVE


def test_a_larger_backbone_asks_for_more_memory_and_time_for_its_texts():
    assert backbone_memory(RN50) < backbone_memory(VIT_L_14)
    assert extraction_memory(RN50, 1) < extraction_memory(VIT_L_14, 1)
    assert text_minutes(RN50, 7000) < text_minutes(VIT_L_14, 7000)
    # Both towers of ViT-L-14 have 428 M weights of 4 bytes, and a process takes its own.
    assert backbone_memory(VIT_L_14) == pytest.approx(PROCESS + 2 * 4 * 428, rel=0.01)


def test_images_take_what_the_tower_takes_on_a_gpu_and_on_the_cores_that_there_are():
    def minutes(shape, threads=1, *, on_gpu):
        return extraction_minutes(shape, 10_000, threads, on_gpu=on_gpu) - RESERVE

    # A GPU waits for the images that are read, but for those of a tower of 2 TFLOP an image.
    giant = RN50._replace(image_flops=2e12)
    assert minutes(RN50, on_gpu=True) == minutes(VIT_L_14, on_gpu=True) == 7
    assert minutes(giant, on_gpu=True) == 34
    assert minutes(RN50, 1, on_gpu=False) == 41
    assert minutes(RN50, 8, on_gpu=False) == 7
    assert minutes(VIT_L_14, 8, on_gpu=False) == pytest.approx(
        minutes(VIT_L_14, on_gpu=False) / 8, abs=1
    )


def test_fifteen_short_trainings_ask_for_little_more_than_half_an_hour():
    for method in ("clip_adapter", "tip_adapter_f"):
        shots = work(method, CALTECH)
        assert is_short(shots, on_gpu=True)
        assert 15 * training_minutes(shots, on_gpu=True) < 40


def test_a_computation_of_some_seconds_is_within_the_reserve():
    assert training_minutes(Work(flops=9e13), on_gpu=True) == SHARED_RESERVE
    assert training_minutes(Work(flops=11e13), on_gpu=True) == SHARED_RESERVE + 1
    assert training_minutes(Work(flops=11 * 60e13), on_gpu=True) == RESERVE + 11


def test_without_a_gpu_a_training_and_a_prediction_get_a_cores_time():
    guided = work("vt_clip", CALTECH, epochs=20)
    assert is_short(guided, on_gpu=True)
    assert not is_short(guided, on_gpu=False)
    assert training_minutes(guided, on_gpu=True) < 5
    assert training_minutes(guided, on_gpu=False) > 150
    requested = [
        prediction_minutes(guided, images=2465, heads=15, on_gpu=on_gpu) for on_gpu in (True, False)
    ]
    assert requested[0] < requested[1]


def test_imagenets_largest_training_gets_what_its_features_take():
    features = features_bytes(RN50, 16_000 * 5) / 1e6
    requested = training_memory(IMAGENET, work("vt_clip", IMAGENET))
    assert 2 * features < requested < 4 * features


def test_vt_clip_pays_for_its_blocks_and_its_feed_forward_part():
    plain, deep, narrow = (
        work("vt_clip", CALTECH, **settings)
        for settings in ({}, {"blocks": 2}, {"feed_forward": 0})
    )
    assert deep.flops == 2 * plain.flops > 5 * narrow.flops
    assert deep.head_bytes == 2 * plain.head_bytes == 4 * narrow.head_bytes
    assert training_memory(CALTECH, narrow) < training_memory(CALTECH, plain)


def test_vt_clip_pays_for_the_classes_that_a_step_guides_and_no_more():
    every, few, more = (
        work("vt_clip", IMAGENET, train_classes=number) for number in (None, 10, 5000)
    )
    assert 10 * few.flops < every.flops == more.flops
    assert training_memory(IMAGENET, few) < training_memory(IMAGENET, every)
    assert few.predict_flops == every.predict_flops  # of all classes
    assert few.batch_bytes == every.batch_bytes


def test_vt_clip_pays_for_measuring_after_each_epoch():
    last, best = (work("vt_clip", CALTECH, select=select) for select in ("last", "val"))
    measured = 200 * CALTECH.val_images * last.predict_flops
    assert best.flops - last.flops == pytest.approx(0.95 * measured)


COUNTED = [
    name
    for name, method in METHODS.items()
    if not method.reads_text_tower and method.work is not Method.work
]


@pytest.mark.parametrize("method", COUNTED)
def test_the_bytes_of_a_head_are_those_that_it_really_has(method, task):
    made = short_method(method)
    size = Size(Shape(5, 16, 16), classes=4, shots=3, images=12, views=2)
    head = made.initial_head(task)
    found = sum(tensor.nbytes for tensor in head.values())
    # Biases and norms are not counted: of 16 numbers they are much, of 1024 little.
    assert made.work(size).head_bytes == pytest.approx(found, rel=0.1)


def test_the_caches_own_bytes_and_operations_count():
    """16,000 keys and as many labels of a thousand classes, for each of fifteen heads."""
    cache = work("tip_adapter", IMAGENET)
    assert prediction_memory(IMAGENET, cache, 15) > PROCESS + 15 * 16_000 * 1024 * 4 / 1e6
    assert prediction_minutes(cache, images=50_000, heads=15, on_gpu=False) > 30
    assert prediction_minutes(cache, images=50_000, heads=15, on_gpu=True) == RESERVE


def test_each_2500_views_get_a_thread_and_sixteen_are_the_most():
    assert [threads_to_decode(views) for views in (0, 2499, 2500, 17_499, 10**6)] == [
        1,
        1,
        2,
        7,
        16,
    ]


def test_unpacking_gets_the_time_of_a_slow_disk():
    assert unpacking_minutes(0) == RESERVE
    assert unpacking_minutes(6 * 10**9) == RESERVE + 10


def test_copies_are_searched_for_in_less_time_where_features_choose_what_is_hashed():
    imagenet = 143_000  # 50,000 test images and those of 15 runs
    assert copies_minutes(imagenet, 1024) < copies_minutes(imagenet, 0)
    assert copies_minutes(0, 1024) == RESERVE


def test_the_arithmetic_knows_no_method_and_no_experiment():
    code = (
        "import sys; import vtclip.cost; "
        "print(*[name for name in sys.modules if name.startswith('vtclip.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vtclip.cost"]
