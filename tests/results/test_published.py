import pytest

from tests.project import ROOT
from vtclip.methods import METHODS
from vtclip.paths import PUBLISHED, PUBLISHED_TESTS
from vtclip.results.published import PublishedError, read_published

FILE = ROOT / PUBLISHED


def test_the_projects_numbers_are_of_known_methods_and_each_has_a_source():
    table = read_published(FILE, [("clip", "RN50-quickgelu", "openai")])
    assert table.height == 302 + 55 + 4 * 55
    others = {"ape", "ape_t", "gda", "timo", "timo_s"}  # which the project need not have
    assert set(table["method"]) <= set(METHODS) | others
    assert table["source"].str.len_chars().min() > 0
    vt_clip = table.filter(method="vt_clip", dataset="imagenet", shots=16)
    assert vt_clip["published"].to_list() == [63.92]
    assert set(table["backbone"]) == {"clip"}


@pytest.mark.parametrize(("backbone", "weights"), [("ViT-L-14", "openai"), ("RN50", "yfcc15m")])
def test_numbers_of_another_backbone_or_other_weights_are_not_shown(backbone, weights):
    assert read_published(FILE, [("clip", backbone, weights)]).is_empty()


def test_a_number_that_is_there_twice_is_refused(tmp_path):
    line = "vt_clip,dtd,1,50.0,RN50,nothing,a paper\n"
    head = "method,dataset,shots,accuracy,backbone,chosen_on,source\n"
    (tmp_path / "published.csv").write_text(head + line + line)
    with pytest.raises(PublishedError, match="vt_clip, dtd, 1 is there twice"):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])


@pytest.mark.parametrize(("word", "found"), [("the weather", "the weather"), ("", "no word")])
def test_what_was_chosen_on_is_one_of_the_known_words(tmp_path, word, found):
    (tmp_path / "published.csv").write_text(
        "method,dataset,shots,accuracy,backbone,chosen_on,source\n"
        f"vt_clip,dtd,1,50.0,RN50,{word},a paper\n"
    )
    with pytest.raises(PublishedError, match=f"vt_clip, dtd, 1: chosen_on: found {found}; .*test"):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])


def test_each_of_the_projects_numbers_says_what_was_chosen_on_what():
    table = read_published(FILE, [("clip", "RN50", "openai")])
    chosen = {
        (row["method"], row["dataset"] == "imagenet"): row["chosen_on"]
        for row in table.iter_rows(named=True)
    }
    assert chosen["zero_shot", True] == chosen["coop", True] == "nothing"
    assert chosen["gda", False] == chosen["tip_adapter", False] == "validation split"
    assert chosen["gda", True] == chosen["tip_adapter_f", False] == "test set"
    assert chosen["linear_probe", False] == "min(k, 4)"


def test_gda_has_numbers_of_four_backbones_at_16_shots():
    for backbone in ("RN50", "RN101", "ViT-B-32", "ViT-B-16"):
        table = read_published(FILE, [("clip", backbone, "openai")])
        assert table.filter(method="gda", shots=16).height == 11


def test_the_projects_numbers_by_test_set_have_a_source_each():
    backbones = [(name, f"{name}-quickgelu", "openai") for name in ("RN50", "ViT-B-16", "ViT-B-32")]
    table = read_published(ROOT / PUBLISHED_TESTS, backbones, by_test_set=True)
    assert table.height > 60
    assert table["published"].is_between(15, 100).all()
    assert table["source"].str.len_chars().min() > 5


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "published.csv").write_text("method,dataset,shots,accuracy,backbone,chosen_on\n")
    with pytest.raises(PublishedError, match="missing: source"):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])
