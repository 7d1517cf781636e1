import polars as pl
import pytest

from tests.results.conftest import make_run, write_costs, write_predictions
from vtclip.paths import ALL
from vtclip.results.few_shot import aggregate_results, render_latex, render_markdown, render_text
from vtclip.results.figures import plot_accuracy, plot_cost, read_costs


@pytest.fixture
def results(tmp_path):
    few = {(1, 1): 0.5, (1, 2): 0.7, (2, 1): 0.8, (2, 2): 0.8}
    zero_shot = {"a": {(0, 0): 0.4}, "b": {(0, 0): 0.2}}
    probe = {"a": few, "b": few | {(1, 1): 0.3, (1, 2): 0.3}}
    runs = [
        make_run(dataset, method, write_predictions(tmp_path / f"{dataset}{method}", runs))
        for dataset in ("a", "b")
        for method, runs in (("zero_shot", zero_shot[dataset]), ("probe", probe[dataset]))
    ]
    return aggregate_results(runs, tmp_path / "results")


def test_mean_and_sample_deviation_over_seeds_are_in_percent(results):
    row = results.row(by_predicate=(pl.col("dataset") == "a") & (pl.col("shots") == 1), named=True)
    assert row["mean"] == pytest.approx(60)
    assert row["std"] == pytest.approx(200**0.5)
    assert row["seeds"] == 2
    assert results.filter(dataset="a", method="zero_shot")["std"].to_list() == [None]  # one run


def test_the_mean_over_datasets_is_taken_seed_by_seed(results):
    mean = results.filter(dataset="mean", method="probe", shots=1).row(0, named=True)
    assert mean["mean"] == pytest.approx(45)
    assert mean["std"] == pytest.approx(50**0.5)  # seeds: 40 and 50
    assert results.filter(dataset="mean", method="zero_shot")["mean"][0] == pytest.approx(30)


def test_parquet_csv_and_markdown_agree(results, tmp_path):
    assert pl.read_parquet(tmp_path / "results.parquet").equals(results)
    csv = pl.read_csv(tmp_path / "results.csv")
    assert csv.columns == [
        "backbone", "dataset", "method", "shots", "mean", "std", "seeds", "published",
        "published_chosen_on", "difference",
    ]  # fmt: skip
    assert csv["mean"].to_list() == pytest.approx(results["mean"].to_list())
    markdown = (tmp_path / "results.md").read_text()
    assert "| a       | probe     |         | 60.0 ± 14.1 | 80.0 ± 0.0 |" in markdown
    assert "| a       | zero_shot | 40.0 " in markdown


def test_all_shots_come_last_by_their_name_and_stand_one_step_to_the_right(tmp_path):
    runs = write_predictions(tmp_path / "runs", {(ALL, 1): 0.9, (4, 1): 0.5, (1, 1): 0.3})
    table = aggregate_results([make_run("a", "probe", runs)], tmp_path / "results")
    assert table.filter(dataset="a")["shots"].to_list() == [1, 4, ALL]
    assert "| dataset | method | 1 shot | 4 shots | all shots |" in render_markdown(table)
    assert render_text(table).startswith("dataset  method  1-shot  4-shot  all-shot\n")
    assert pl.read_csv(tmp_path / "results.csv")["shots"].to_list() == ["1", "4", "all"] * 2
    plot_accuracy(tmp_path / "results.parquet", tmp_path / "accuracy", {})
    drawn = (tmp_path / "accuracy.svg").read_text()
    assert "<!-- all -->" in drawn
    assert str(ALL) not in drawn


def test_footnotes_stand_below_every_form_of_the_table(tmp_path):
    runs = write_predictions(tmp_path / "runs", {(1, 1): 0.5})
    note = "Chosen on the validation shots: alpha."
    aggregate_results([make_run("a", "probe", runs)], tmp_path / "results", notes=[note])
    for suffix in ("md", "tex", "txt"):
        assert note in " ".join((tmp_path / f"results.{suffix}").read_text().split())


def test_macro_accuracy_follows_the_same_table_of_uneven_shots(tmp_path):
    runs = [make_run("a", "probe", write_predictions(tmp_path / "runs", {(1, 1): 0.5}))]
    metrics = pl.DataFrame(
        {"backbone": "clip", "dataset": "a", "method": "probe", "shots": 1, "macro_accuracy": 40.04,
         "macro_accuracy_std": None, "seeds": 1}
    )  # fmt: skip
    aggregate_results(runs, tmp_path / "even")
    aggregate_results(runs, tmp_path / "uneven", metrics=metrics)
    even, uneven = ((tmp_path / f"{name}.md").read_text() for name in ("even", "uneven"))
    assert uneven.startswith(even)
    added = uneven.removeprefix(even)
    assert "Macro accuracy, the mean over the classes" in added
    assert "| a       | probe  | 40.0" in added


def test_published_curves_are_dashed_and_the_same_table_gives_the_same_file(results, tmp_path):
    results.with_columns(published=pl.lit(50.0)).write_parquet(tmp_path / "published.parquet")
    for table, name in (("results", "one"), ("results", "two"), ("published", "both")):
        plot_accuracy(tmp_path / f"{table}.parquet", tmp_path / name, {"a": "A", "b": "B"})
    one, two, both = ((tmp_path / f"{name}.svg").read_text() for name in ("one", "two", "both"))
    assert one == two
    assert both.count("dasharray") > one.count("dasharray")
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"


def test_the_cost_is_the_mean_seconds_of_a_methods_runs_at_each_number_of_shots(results, tmp_path):
    seconds = {"zero_shot": [(0, 2.0)], "probe": [(1, 1.0), (1, 3.0), (2, 5.0)]}
    runs = [
        make_run("a", method, "", shots=k, record=write_costs(tmp_path / f"{method}{cost}", cost))
        for method, found in seconds.items()
        for k, cost in found
    ]
    found = read_costs(runs).select("method", "shots", "runs", "seconds", "memory").rows()
    assert found == [
        ("zero_shot", 0, 1, 2.0, 0.5), ("probe", 1, 2, 2.0, 0.5), ("probe", 2, 1, 5.0, 0.5)
    ]  # fmt: skip
    plot_cost(tmp_path / "results.parquet", runs, tmp_path / "cost", {"probe": "The Probe"})
    drawn = (tmp_path / "cost.svg").read_text()
    assert "<!-- The Probe -->" in drawn
    assert "<!-- zero_shot -->" in drawn


@pytest.fixture
def two_backbones(results):
    other = results.with_columns(backbone=pl.lit("large"), mean=pl.col("mean") + 10)
    return pl.concat([results, other])


def test_each_of_two_backbones_has_its_own_rows_and_panels(two_backbones, tmp_path):
    two_backbones.write_parquet(tmp_path / "two.parquet")
    text = render_text(two_backbones)
    head = text.splitlines()[0].split()
    assert head[:3] == ["dataset", "backbone", "method"]
    assert "a        large     probe" in text
    assert "| a       | large    | probe     |         | 70.0" in render_markdown(two_backbones)
    assert "a & clip & zero" in render_latex(two_backbones)
    plot_accuracy(tmp_path / "two.parquet", tmp_path / "two", {"a": "Data A", "b": "Data B"})
    drawn = (tmp_path / "two.svg").read_text()
    for panel in ("clip", "large"):
        assert drawn.count(f"<!-- {panel} -->") == 3


def test_one_seed_has_no_deviation_and_one_dataset_no_mean_over_datasets(tmp_path):
    runs = write_predictions(tmp_path / "runs", {(1, 1): 0.5})
    table = aggregate_results([make_run("a", "probe", runs)], tmp_path / "results")
    assert table["dataset"].to_list() == ["a", "mean"]  # the figure of costs reads the mean
    for suffix in (".md", ".txt", ".tex"):
        text = (tmp_path / "results").with_suffix(suffix).read_text()
        assert "of one seed." in text
        for word in ("mean", "deviation", "1 seeds"):
            assert word not in text
