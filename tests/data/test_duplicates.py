"""Near-duplicates are found by features and by hashes, and grouped."""

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

from vtclip.data import duplicates
from vtclip.data.duplicates import (
    find_copies,
    find_near_duplicates,
    group_near_duplicates,
    hash_images,
)


def draw(seed):
    """A picture of some shapes."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (120, 90), tuple(generator.integers(0, 255, 3)))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top, width, height = generator.integers(0, 90, 4)
        colour = tuple(generator.integers(0, 255, 3))
        pen.rectangle((left, top, left + width, top + height), fill=colour)
    return picture


@pytest.fixture
def pictures(tmp_path):
    """Six pictures; two of them are copies of the first, compressed and of another size."""
    for seed in range(4):
        draw(seed).save(tmp_path / f"{seed}.png")
    draw(0).save(tmp_path / "compressed.jpg", quality=30)
    draw(0).resize((240, 180)).save(tmp_path / "resized.webp")
    return tmp_path


NAMES = ["0.png", "1.png", "2.png", "3.png", "compressed.jpg", "resized.webp"]
TABLE = pl.DataFrame(
    {"image": NAMES, "label": [0, 1, 2, 3, 0, 1], "split": ["train"] * 5 + ["test"]}
)


def pairs_of(found):
    return set(found.select("row", "other_row").iter_rows())


def test_compressed_and_resized_copies_are_found_by_their_hashes(pictures):
    found = find_near_duplicates(TABLE, hashes=hash_images(NAMES, pictures))
    assert pairs_of(found) == {(0, 4), (0, 5), (4, 5)}
    assert found["cosine"].null_count() == found.height
    across = found.filter(pl.col("label") != pl.col("other_label"), split="train")
    assert across["other_image"].to_list() == ["resized.webp"] * 2
    assert across["other_split"].to_list() == ["test"] * 2


def test_an_image_that_cannot_be_read_is_like_no_other(pictures):
    (pictures / "1.png").write_bytes(b"")
    (pictures / "2.png").write_bytes(b"")
    found = find_near_duplicates(TABLE, hashes=hash_images(NAMES, pictures))
    assert pairs_of(found) == {(0, 4), (0, 5), (4, 5)}


@pytest.mark.parametrize("rows", [1, 4, 1024])
def test_features_of_one_direction_are_a_pair_whatever_their_length(monkeypatch, rows):
    monkeypatch.setattr(duplicates, "ROWS", rows)
    features = np.eye(6, 8, dtype=np.float16)
    features[5] = 3 * features[2]
    found = find_near_duplicates(TABLE, features=features)
    assert pairs_of(found) == {(2, 5)}
    assert found["cosine"].to_list() == pytest.approx([1.0])
    assert found["bits"].to_list() == [None]


def test_either_sign_makes_a_pair_and_both_are_given(pictures):
    features = np.eye(6, 8)
    features[3] = features[1]
    hashes = hash_images(NAMES, pictures)
    found = find_near_duplicates(TABLE, features=features, hashes=hashes)
    assert pairs_of(found) == {(0, 4), (0, 5), (4, 5), (1, 3)}
    assert found.null_count().sum_horizontal().item() == 0


def test_a_copy_is_near_whose_features_have_moved_less_than_the_distance_to_others():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 64)).repeat(8, axis=0)
    features = centres + generator.normal(size=(40, 64))
    moved = features[3] + 0.4 * generator.normal(size=64)
    table = pl.DataFrame({"image": [str(number) for number in range(41)]})
    assert find_near_duplicates(table[:40], features=features).is_empty()
    found = find_near_duplicates(table, features=np.vstack([features, moved]))
    assert pairs_of(found) == {(3, 40)}
    assert found["cosine"].item() < 0.97


def test_only_images_with_nearer_features_than_most_are_hashed_and_copies_found_all_the_same():
    generator = np.random.default_rng(0)
    features, hashes = generator.normal(size=(400, 64)), generator.integers(0, 2, (400, 256))
    features[390:] = features[:10] + 0.9 * generator.normal(size=(10, 64))
    hashes[390:] = hashes[:10]
    table, hashed = pl.DataFrame({"image": [str(number) for number in range(400)]}), []
    assert find_near_duplicates(table, features=features).height < 10

    def hash_some(images):
        hashed.extend(images)
        return hashes[[int(image) for image in images]].astype(np.float32)

    found = find_copies(table, 200, features=features, hash_some=hash_some)
    assert pairs_of(found.filter(bits=0)) == {(row, 390 + row) for row in range(10)}
    assert len(hashed) == len(set(hashed)) < 200


def test_images_that_pairs_link_are_one_group():
    pairs = pl.DataFrame({"row": [0, 2], "other_row": [2, 5]})
    groups = group_near_duplicates(pairs, 6)
    assert groups[0] == groups[2] == groups[5]
    assert len(set(groups.tolist())) == 4
    nothing = find_near_duplicates(TABLE, features=np.eye(6))
    assert len(set(group_near_duplicates(nothing, 6).tolist())) == 6
