"""A user's name for something stands in tables and figures as it is, whatever it would mean."""

import xml.etree.ElementTree as ElementTree

import polars as pl
import pytest

from tests.results.conftest import make_run, write_costs, write_predictions
from vtclip.results.few_shot import aggregate_results, escape_latex, render_text
from vtclip.results.figures import drawing, plot_accuracy, plot_cost, title_of
from vtclip.results.tables import escape_markdown, write_table

ODD = [
    "ke$ha", "$1 bill", "$x^2$", "$\\frac{$", "a|b", "*a*", "_a_", "`a`", "<b>", "[a](b)", "a\\b",
    "50 %", "#1", "a & b", "&amp;", "{a}", "~a~", "a\nb", "bell\a", "\u202eabc",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["oxford_pets", "VT-CLIP", "Letters (synthetic)", "60.0 ± 1.2", "A & B", "a < b", "Käthe"],
)
def test_an_ordinary_name_is_written_as_it_is_in_markdown(name):
    assert escape_markdown(name) == name


@pytest.mark.parametrize(
    ("name", "markdown", "latex"),
    [
        ("a|b", r"a\|b", r"a\textbar{}b"),
        ("_a_ b*", r"\_a\_ b\*", r"\_a\_ b{*}"),
        ("`<b>[", r"\`\<b>\[", r"`\textless{}b\textgreater{}{[}"),
        ("$1 & &amp;", r"\$1 & \&amp;", r"\$1 \& \&amp;"),
        ("a\\{b}", r"a\\{b}", r"a\textbackslash{}\{b\}"),
        ("~^#%", r"\~^#%", r"\textasciitilde{}\textasciicircum{}\#\%"),
        ("two\n  lines\a", "two lines�", "two lines�"),
    ],
)
def test_what_would_be_markup_is_escaped(name, markdown, latex):
    assert (escape_markdown(name), escape_latex(name)) == (markdown, latex)


@pytest.fixture
def results(tmp_path):
    """A table and figures in which datasets and methods have odd titles."""
    runs = [
        make_run(dataset, method, write_predictions(tmp_path / f"{number}{method}", runs))
        for number, dataset in enumerate(ODD[:3])
        for method, runs in (("zero_shot", {(0, 0): 0.2}), ("probe", {(1, 1): 0.5, (2, 1): 0.6}))
    ]
    titles = {"zero_shot": ODD[3], "probe": "[a]|b & \\c"}
    aggregate_results(runs, tmp_path / "results", titles=titles)
    return tmp_path, titles


def test_every_row_of_a_markdown_table_has_the_columns_of_its_head(results):
    folder, _ = results
    rows = [line for line in (folder / "results.md").read_text().splitlines() if line[:1] == "|"]
    assert len(rows) == 2 + 2 * 4
    assert {row.replace(r"\|", "").count("|") for row in rows} == {6}
    assert r"| ke\$ha" in rows[2]
    assert r"| \[a]\|b & \\c |" in rows[3]


def test_every_row_of_a_latex_table_has_the_columns_of_its_head(results):
    folder, _ = results
    rows = [line for line in (folder / "results.tex").read_text().splitlines() if "&" in line]
    assert len(rows) == 1 + 2 * 4
    assert {row.replace(r"\&", "").count("&") for row in rows} == {4}
    assert r"ke\$ha & \$\textbackslash{}frac\{\$ & 20.0" in rows[1]


def texts_of(figure):
    """The texts of a figure, which matplotlib writes beside their outlines, in its own way."""
    ElementTree.parse(figure)  # noqa: S314 -- our own; a file that cannot be read is no figure
    return figure.read_text()


def test_any_title_is_drawn_as_it_is(results, tmp_path):
    titles = {str(number): name for number, name in enumerate(ODD)}
    with drawing(tmp_path / "titles", 2, 8) as figure:
        for number, name in enumerate(titles):
            figure.text(0, number / len(titles), title_of(name, titles))
    drawn = texts_of(tmp_path / "titles.svg")
    assert [name for name in ODD if "$" in name and f"<!-- {name} -->" not in drawn] == []


def test_titles_with_dollars_are_drawn_and_powers_of_ten_are_plain_numbers(results):
    folder, _ = results
    titles = {ODD[0]: r"$\frac{$", "probe": r"The $\x$"}
    plot_accuracy(folder / "results.parquet", folder / "accuracy", titles)
    runs = [
        make_run(ODD[0], "probe", "", shots=shots, record=write_costs(folder / f"{shots}", seconds))
        for shots, seconds in ((1, 2.0), (2, 0.03))
    ]
    plot_cost(folder / "results.parquet", runs, folder / "cost", titles)
    assert r"<!-- $\frac{$ -->" in texts_of(folder / "accuracy.svg")
    for text in (r"The $\x$", "0.1", "1"):
        assert f"<!-- {text} -->" in texts_of(folder / "cost.svg")


def test_the_table_of_a_terminal_keeps_to_lines(results):
    folder, titles = results
    table = pl.read_parquet(folder / "results.parquet")
    text = render_text(table, titles=titles | {"probe": "two\nlines"})
    assert "two lines" in text


def test_a_name_with_a_point_is_whole_in_the_names_of_tables_and_figures(tmp_path):
    write_table(pl.DataFrame({"dataset": ["my.birds"]}), tmp_path / "my.birds.parquet")
    with drawing(tmp_path / "my.birds.svg", 1, 1):
        pass
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"my.birds.{suffix}" for suffix in ("parquet", "csv", "svg", "png")}
