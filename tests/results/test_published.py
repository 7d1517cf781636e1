from pathlib import Path

import pytest

from vtclip.methods import METHODS
from vtclip.results.published import PublishedError, read_published

FILE = Path(__file__).parents[2] / "config" / "published.csv"


def test_the_projects_numbers_are_of_known_methods_and_each_has_a_source():
    table = read_published(FILE, [("clip", "RN50-quickgelu", "openai")])
    assert table.height == 302
    assert set(table["method"]) <= set(METHODS)
    assert table["source"].str.len_chars().min() > 0
    vt_clip = table.filter(method="vt_clip", dataset="imagenet", shots=16)
    assert vt_clip["published"].to_list() == [63.92]
    assert set(table["backbone"]) == {"clip"}


@pytest.mark.parametrize(("backbone", "weights"), [("ViT-B-32", "openai"), ("RN50", "yfcc15m")])
def test_numbers_of_another_backbone_or_other_weights_are_not_shown(backbone, weights):
    assert read_published(FILE, [("clip", backbone, weights)]).is_empty()


def test_a_number_that_is_there_twice_is_refused(tmp_path):
    line = "vt_clip,dtd,1,50.0,RN50,a paper\n"
    head = "method,dataset,shots,accuracy,backbone,source\n"
    (tmp_path / "published.csv").write_text(head + line + line)
    with pytest.raises(PublishedError, match="vt_clip, dtd, 1 is there twice"):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "published.csv").write_text("method,dataset,shots,accuracy,backbone\n")
    with pytest.raises(PublishedError, match="missing: source"):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])
