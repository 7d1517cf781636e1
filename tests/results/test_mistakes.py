import polars as pl

from vtclip.results.metrics import find_confusions, find_mistakes


def run(*rows):
    """Predictions of one number of shots, as (seed, image, label, prediction, confidence)."""
    schema = ["seed", "image", "label", "prediction", "confidence"]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(shots=16)


RUN = run(
    (1, "a", 0, 1, 0.9), (1, "b", 0, 1, 0.7), (1, "c", 0, 0, 0.8), (1, "d", 1, 2, 0.95),
    (2, "a", 0, 1, 0.6), (2, "b", 0, 0, 0.7), (2, "c", 0, 0, 0.8), (2, "d", 1, 1, 0.5),
)  # fmt: skip


def test_the_pairs_that_are_confused_most_come_first_with_their_share_over_all_seeds():
    confusions = find_confusions(RUN, number=5, examples=2)
    assert confusions.rows() == [(0, 1, 50.0, ["a", "b"]), (1, 2, 50.0, ["d"])]


def test_the_most_confident_mistakes_come_first_and_each_image_once():
    found = find_mistakes(RUN, number=5)
    assert found.select("image", "confidence").rows() == [("d", 0.95), ("a", 0.9), ("b", 0.7)]


def test_without_a_mistake_there_is_nothing():
    right = RUN.with_columns(prediction=pl.col("label"))
    assert find_mistakes(right, number=5).is_empty()
    assert find_confusions(right, number=5, examples=2).is_empty()
