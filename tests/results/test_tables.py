import polars as pl
import pytest

from vtclip.results.few_shot import add_published, render_latex, render_markdown, render_text
from vtclip.results.published import NOTHING_PUBLISHED

PAPER = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101", "mean",
)  # fmt: skip
ALL_METHODS = ("zero_shot", "linear_probe", "tip_adapter_f", "vt_clip")


def results(
    datasets=("dtd",), methods=("zero_shot", "vt_clip"), shots=(1, 16), published=NOTHING_PUBLISHED
):
    rows = [
        {
            "backbone": "clip",
            "dataset": dataset,
            "method": method,
            "shots": k,
            "mean": 60.0 + k,
            "std": 1.25,
            "seeds": 3,
        }
        for dataset in datasets
        for method in methods
        for k in ((0,) if method == "zero_shot" else shots)
    ]
    table = pl.DataFrame(rows, schema_overrides={"shots": pl.Int32})
    return add_published(table.with_columns(seeds=pl.lit(3)), published)


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


def test_a_mark_beside_each_published_number_tells_what_was_chosen_on_what():
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


def test_methods_are_shown_by_their_titles():
    titles = {"vt_clip": "VT-CLIP"}
    for render in (render_text, render_markdown, render_latex):
        shown = render(results(), titles=titles)
        assert "VT-CLIP" in shown
        assert "vt_clip" not in shown
