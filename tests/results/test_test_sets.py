"""The table of heads on other test sets than their own, and on halves of the classes."""

import polars as pl
import pytest

from tests.results.conftest import make_run
from vtclip.results.tables import read_published
from vtclip.results.test_sets import ELEVEN, aggregate_tests, plot_tests

TITLES = {"digits": "Digits", "noisy": "Noisy digits", "probe": "Linear probe", "vt": "VT-CLIP"}
REASON = "Linear probe knows only the classes that it was trained on"


@pytest.fixture
def predicted(tmp_path):
    """Writes predictions with so many hits of ten a seed, all of confidence 0.9."""

    def write(*hits, shots=4, name=None):
        path = tmp_path / f"{name or '-'.join(map(str, hits))}-{shots}.parquet"
        rows = [
            (shots, seed, 1, 1 if image < number else 0, 0.9)
            for seed, number in enumerate(hits)
            for image in range(10)
        ]
        columns = ["shots", "seed", "label", "prediction", "confidence"]
        table = pl.DataFrame(rows, schema=columns, orient="row")
        table.with_columns(pl.col("shots", "seed").cast(pl.Int32)).write_parquet(path)
        return path

    return write


def value(table, column="mean", **cell):
    return table.filter(**cell)[column].item()


def test_a_cell_is_the_mean_over_seeds_with_its_calibration_error(predicted, tmp_path):
    runs = [
        make_run("digits", "vt", predicted(8, 10), tested="digits"),
        make_run("digits", "vt", predicted(2, 4), tested="noisy"),
        make_run("digits", "vt", predicted(6, 6), tested="turned"),
    ]
    table = aggregate_tests(runs, tmp_path / "tests")
    assert value(table, tested="digits") == pytest.approx(90)
    assert value(table, "std", tested="noisy") == pytest.approx(200**0.5)
    assert value(table, "calibration_error", tested="noisy") == pytest.approx(60)
    assert value(table, tested="mean") == pytest.approx(45), "the dataset's own set is left out"
    assert table["seeds"].to_list() == [2, 2, 2, 2]


def test_an_empty_cell_has_its_reason_beside_each_row(predicted, tmp_path):
    runs = [
        make_run("digits", "probe", predicted(8), tested="digits"),
        make_run("digits", "probe", "", tested="letters", reason=REASON),
        make_run("letters", "probe", "", tested="letters", reason="letters is left out"),
    ]
    table = aggregate_tests(runs, tmp_path / "tests", titles=TITLES)
    assert value(table, "reason", dataset="digits", tested="letters") == REASON
    text = (tmp_path / "tests.md").read_text()
    lines = text.split("Expected calibration")[0].splitlines()
    assert "| Digits     | Linear probe | 4     | 80.0   | –       |" in lines
    assert [line for line in lines if line.startswith("| letters") and "| –" in line]
    assert f"–: {REASON}." in lines


def test_halves_have_a_harmonic_mean_of_the_means_over_seeds(predicted, tmp_path):
    runs = [
        make_run(f"{name}@base", "vt", predicted(*hits), tested=f"{name}@{half}")
        for name, halves in {"digits": [(9, 7), (2, 6)], "letters": [(6, 6), (4, 4)]}.items()
        for half, hits in zip(("base", "new"), halves, strict=True)
    ]
    table = aggregate_tests(runs, tmp_path / "tests")
    digits = {"dataset": "digits", "method": "vt"}
    assert value(table, tested="base", **digits) == pytest.approx(80)
    assert value(table, tested="harmonic mean", **digits) == pytest.approx(2 * 80 * 40 / 120)
    mean = {name: value(table, dataset="mean", tested=name) for name in ("base", "new")}
    assert mean == pytest.approx({"base": 70, "new": 40})
    harmonic = value(table, dataset="mean", tested="harmonic mean")
    assert harmonic == pytest.approx(2 * 70 * 40 / 110), "not the mean of the harmonic means"


def test_a_method_that_names_no_new_class_has_no_harmonic_mean(predicted, tmp_path):
    runs = [
        make_run("digits@base", "probe", predicted(8), tested="digits@base"),
        make_run("digits@base", "probe", "", tested="digits@new", reason=REASON),
    ]
    table = aggregate_tests(runs, tmp_path / "tests")
    assert "harmonic mean" not in table["tested"]
    assert "–" in (tmp_path / "tests.md").read_text()


def write_published(path, *lines):
    path.write_text(
        "\n".join(["method,dataset,tested,shots,accuracy,backbone,chosen_on,source", *lines])
    )
    return read_published(path, [("clip", "RN50-quickgelu", "openai")], by_test_set=True)


def test_published_numbers_stand_beside_ours(predicted, tmp_path):
    published = write_published(
        tmp_path / "p.csv",
        "vt,digits,noisy,4,25.0,RN50,nothing,x",
        "vt,digits,digits,8,1.0,RN50,test set,x",
    )
    runs = [
        make_run("digits", "vt", predicted(8), tested="digits"),
        make_run("digits", "vt", predicted(3), tested="noisy"),
    ]
    table = aggregate_tests(runs, tmp_path / "tests", published=published)
    assert value(table, "difference", tested="noisy") == pytest.approx(5)
    assert value(table, "published", tested="digits") is None
    assert "published_chosen_on" not in table.columns
    shown = (tmp_path / "tests.md").read_text()
    assert "30.0 / 25.0¹ (+5.0)" in shown
    assert shown.rstrip().endswith("were chosen on: ¹ no image."), "of those that are shown"


def test_a_published_mean_over_datasets_stands_only_beside_that_of_the_eleven(predicted, tmp_path):
    lines = [f"vt,mean,{half},4,50.0,RN50,nothing,x" for half in ("base", "new", "harmonic mean")]
    published = write_published(tmp_path / "p.csv", *lines)
    for names, number in ((sorted(ELEVEN), 3), (sorted(ELEVEN)[1:], 0)):
        runs = [
            make_run(f"{name}@base", "vt", predicted(8), tested=f"{name}@{half}")
            for name in names
            for half in ("base", "new")
        ]
        table = aggregate_tests(runs, tmp_path / "tests", published=published)
        assert table["published"].count() == number


def test_the_figure_is_the_same_each_time(predicted, tmp_path):
    runs = [
        make_run(source, method, path, tested=tested, reason="" if path else REASON)
        for source in ("digits", "letters")
        for tested in ("digits", "letters")
        for method, path in (
            ("vt", predicted(8, 6)),
            ("probe", predicted(3) if source == tested else ""),
        )
    ]
    aggregate_tests(runs, tmp_path / "tests")
    made = []
    for _ in range(2):
        plot_tests(tmp_path / "tests.parquet", tmp_path / "figure", TITLES)
        made.append((tmp_path / "figure.svg").read_bytes())
    assert made[0] == made[1]
    assert (tmp_path / "figure.png").is_file()
