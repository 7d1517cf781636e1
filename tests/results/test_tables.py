import polars as pl
import pytest

from tests.project import ROOT
from vtclip.methods import METHODS
from vtclip.paths import PUBLISHED, PUBLISHED_TESTS
from vtclip.results.few_shot import add_published, render_latex, render_markdown, render_text
from vtclip.results.tables import ELEVEN, NOTHING_PUBLISHED, PublishedError, read_published

PAPER = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101", "mean",
)  # fmt: skip
ALL_METHODS = ("zero_shot", "linear_probe", "tip_adapter_f", "vt_clip")


def results(
    datasets=("dtd",), methods=("zero_shot", "vt_clip"), shots=(1, 16), published=NOTHING_PUBLISHED
):
    rows = [
        ("clip", dataset, method, k, 60.0 + k, 1.25, 3)
        for dataset in datasets
        for method in methods
        for k in ((0,) if method == "zero_shot" else shots)
    ]
    columns = ["backbone", "dataset", "method", "shots", "mean", "std", "seeds"]
    table = pl.DataFrame(rows, columns, orient="row", schema_overrides={"shots": pl.Int32})
    return add_published(table, published)


def test_the_terminals_table_of_the_papers_grid_fits_100_columns_with_its_spreads():
    text = render_text(results(PAPER, ALL_METHODS, (1, 2, 4, 8, 16)))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "76.0±1.2" in text
    assert "fgvc_aircraft" in text


@pytest.mark.parametrize("width", [75, 80])
def test_on_a_narrow_terminal_spreads_and_then_long_names_give_way(width):
    text = render_text(results(PAPER, ALL_METHODS, (1, 2, 4, 8, 16)), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "76.0" in text


def test_a_left_out_dataset_is_named_in_every_table():
    assert "imagenet  missing" in render_text(results(), ["imagenet"])
    assert "| imagenet | missing" in render_markdown(results(), ["imagenet"])


def test_the_latex_table_is_one_of_booktabs_with_escaped_names():
    latex = render_latex(results())
    assert r"\begin{tabular}{llrrr}" in latex
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in latex
    assert r"dtd & zero\_shot & 60.0\,$\pm$\,1.2" in latex
    assert r" & vt\_clip &  & 61.0\,$\pm$\,1.2 & 76.0\,$\pm$\,1.2 \\" in latex


def published(**numbers):
    rows = [
        ("clip", "vt_clip", dataset, 16, number, chosen_on, "a paper")
        for dataset, (number, chosen_on) in numbers.items()
    ]
    schema = ["backbone", "method", "dataset", "shots", "published", "chosen_on", "source"]
    return pl.DataFrame(rows, schema=schema, orient="row", schema_overrides={"shots": pl.Int32})


def test_published_numbers_stand_beside_ours_with_the_difference():
    table = results(published=published(dtd=(75.5, "test set")))
    row = table.filter(method="vt_clip", shots=16).row(0, named=True)
    assert (row["published"], row["difference"]) == (75.5, 0.5)
    assert table.filter(method="vt_clip", shots=1)["published"][0] is None
    assert "76.0 / 75.5¹ (+0.5)" in render_markdown(table)


def test_a_mark_beside_each_published_number_says_what_was_chosen_on_what():
    numbers = {"dtd": (70.0, "nothing"), "eurosat": (80.0, "test set"), "ucf101": (66.0, "nothing")}
    table = results((*numbers, "mean"), published=published(**numbers))
    shown = render_markdown(table)
    for cell in ("70.0¹ (+6.0)", "80.0² (-4.0)", "66.0¹ (+10.0)", "72.0³ (+4.0)"):
        assert cell in shown
    assert shown.rstrip().endswith(
        "chosen on: ¹ no image; ² the test images; ³ no image, or the test images."
    )
    mean = table.filter(dataset="mean", method="vt_clip", shots=16)
    assert mean["published_chosen_on"].to_list() == ["nothing; test set"]


def test_the_mean_has_a_published_number_where_every_dataset_has_one():
    datasets = ("dtd", "ucf101", "mean")
    both = results(datasets, published=published(dtd=(70.0, "test set"), ucf101=(80.0, "test set")))
    one = results(datasets, published=published(dtd=(70.0, "test set")))
    mean = {"dataset": "mean", "method": "vt_clip", "shots": 16}
    assert both.filter(**mean)["published"].to_list() == [75.0]
    assert one.filter(**mean)["published"].to_list() == [None]


def test_a_mean_that_is_published_alone_stands_beside_that_of_the_eleven_datasets_only():
    eleven = (*sorted(ELEVEN), "mean")
    alone = published(mean=(77.0, "not stated"))
    mean = {"dataset": "mean", "method": "vt_clip", "shots": 16}
    beside = results(eleven, published=alone)
    assert beside.filter(**mean)["published"].to_list() == [77.0]
    assert "¹ images that its authors do not state" in render_markdown(beside)
    assert results(eleven[1:], published=alone).filter(**mean)["published"].to_list() == [None]


def test_a_mean_of_each_datasets_published_numbers_comes_before_one_that_is_published_alone():
    eleven = (*sorted(ELEVEN), "mean")
    numbers = published(**dict.fromkeys(eleven[:-1], (70.0, "nothing")), mean=(71.0, "test set"))
    table = results(eleven, published=numbers)
    assert table.height == results(eleven).height
    (row,) = table.filter(dataset="mean", method="vt_clip", shots=16).iter_rows(named=True)
    assert (row["published"], row["published_chosen_on"]) == (70.0, "nothing")


def test_methods_are_shown_by_their_titles():
    titles = {"vt_clip": "VT-CLIP"}
    for render in (render_text, render_markdown, render_latex):
        shown = render(results(), titles=titles)
        assert "VT-CLIP" in shown
        assert "vt_clip" not in shown


FILE = ROOT / PUBLISHED


def test_the_projects_numbers_are_of_known_methods_and_each_has_a_source():
    table = read_published(FILE, [("clip", "RN50-quickgelu", "openai")])
    assert table.height == 302 + 55 + 4 * 55 + 241
    others = {  # which the project need not have
        "ape", "ape_t", "ldc", "prolip", "proto_clip", "proto_clip_f", "timo", "timo_s", "tip_x",
    }  # fmt: skip
    assert set(table["method"]) <= set(METHODS) | others
    assert table["source"].str.len_chars().min() > 0
    vt_clip = table.filter(method="vt_clip", dataset="imagenet", shots=16)
    assert vt_clip["published"].to_list() == [63.92]
    assert set(table["backbone"]) == {"clip"}


@pytest.mark.parametrize(("backbone", "weights"), [("ViT-L-14", "openai"), ("RN50", "yfcc15m")])
def test_numbers_of_another_backbone_or_other_weights_are_not_shown(backbone, weights):
    assert read_published(FILE, [("clip", backbone, weights)]).is_empty()


HEAD = "method,dataset,shots,accuracy,backbone,chosen_on,source"
CHOSEN = "vt_clip, dtd, 1: chosen_on: found"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEAD.removesuffix(",source")], "missing: source"),
        ([HEAD, *["vt_clip,dtd,1,50.0,RN50,nothing,x"] * 2], "vt_clip, dtd, 1 is there twice"),
        ([HEAD, "vt_clip,dtd,1,50.0,RN50,the weather,x"], f"{CHOSEN} the weather; .*test"),
        ([HEAD, "vt_clip,dtd,1,50.0,RN50,,x"], f"{CHOSEN} no word; .*test"),
    ],
)
def test_a_file_of_published_numbers_that_cannot_be_used_is_refused(tmp_path, lines, message):
    (tmp_path / "published.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(PublishedError, match=message):
        read_published(tmp_path / "published.csv", [("clip", "RN50", "openai")])


def test_each_of_the_projects_numbers_says_what_was_chosen_on_what():
    table = read_published(FILE, [("clip", "RN50", "openai")]).filter(pl.col("dataset") != "mean")
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
        found = table.filter(pl.col("dataset") != "mean", method="gda", shots=16)
        assert found.height == 11


def test_the_second_table_has_published_numbers_of_its_backbone():
    table = read_published(FILE, [("clip", "ViT-B-16-quickgelu", "openai")])
    means = table.filter(dataset="mean", shots=16)
    found = dict(means.select("method", "published").iter_rows())
    prompts = {name: found[name] for name in ("coop", "cocoop", "kgcoop", "prograd")}
    assert prompts == {"coop": 79.01, "cocoop": 75.02, "kgcoop": 77.26, "prograd": 79.2}
    assert table.filter(method="zero_shot", shots=0).height == 12  # with the mean
    # Of a third party's runs it is not known what they chose on.
    third = table.filter(pl.col("source").str.starts_with("third party"))
    assert set(third["chosen_on"]) == {"not stated", "nothing"}
    assert set(third.filter(chosen_on="nothing")["method"]) == {"clip_lora"}


def test_the_projects_numbers_by_test_set_have_a_source_each():
    backbones = [(name, f"{name}-quickgelu", "openai") for name in ("RN50", "ViT-B-16", "ViT-B-32")]
    table = read_published(ROOT / PUBLISHED_TESTS, backbones, by_test_set=True)
    assert table.height == 93
    harmonic = table.filter(dataset="mean", tested="harmonic mean", shots=16)
    found = dict(harmonic.select("method", "published").iter_rows())
    assert {name: found[name] for name in ("coop", "cocoop", "kgcoop", "prograd")} == {
        "coop": 71.66, "cocoop": 75.83, "kgcoop": 77.0, "prograd": 76.17,
    }  # fmt: skip
    assert table["published"].is_between(15, 100).all()
    assert table["source"].str.len_chars().min() > 5
