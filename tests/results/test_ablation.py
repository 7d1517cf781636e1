import pytest

from tests.results.conftest import make_run, write_predictions
from vtclip.files import write_json
from vtclip.results.ablation import CONFIGURED, aggregate_ablation, plot_ablation

# variant -> seed -> accuracy on validation shots and on test images
ACCURACIES = {
    CONFIGURED: {1: (0.5, 0.4), 2: (0.5, 0.6)},
    "heads: 1": {1: (0.6, 0.6), 2: (0.4, 0.9)},
    r"words: $\a$ |": {1: (0.5, 0.4), 2: (0.5, 0.6)},
}


@pytest.fixture
def table(tmp_path):
    runs = []
    for number, (variant, seeds) in enumerate(ACCURACIES.items()):
        test = {(4, seed): accuracy for seed, (_, accuracy) in seeds.items()}
        predictions = write_predictions(tmp_path / f"{number}.parquet", test)
        for seed, (val, _) in seeds.items():
            record = tmp_path / f"{number}-{seed}.json"
            write_json(record, {"val_accuracy": val})
            place = {"label": variant, "shots": 4, "seed": seed, "record": str(record)}
            runs.append(make_run("a", "vt_clip", predictions, **place))
    return aggregate_ablation(runs, tmp_path / "ablation", notes=["Nothing was chosen."])


def test_gains_are_over_the_method_as_configured_seed_by_seed(table):
    row = table.filter(dataset="a", variant="heads: 1", images="test").row(0, named=True)
    assert row["mean"] == pytest.approx(75)
    assert row["gain"] == pytest.approx(25)  # 20 and 30
    assert row["gain_std"] == pytest.approx(50**0.5)
    row = table.filter(dataset="a", variant="heads: 1", images="validation").row(0, named=True)
    assert (row["mean"], row["gain"]) == pytest.approx((50, 0))
    assert table.filter(variant=CONFIGURED)["gain"].abs().max() < 1e-9


def test_validation_shots_and_test_images_have_a_table_each(table, tmp_path):
    validation, test = (tmp_path / "ablation.md").read_text().split("Accuracy on the test images")
    assert "| a       | heads: 1          | 50.0 (+0.0 ± 14.1) |" in validation
    assert "| a       | heads: 1          | 75.0 (+25.0 ± 7.1) |" in test
    assert r"| words: \$\\a\$ \| |" in test, "any words are text"
    assert "Choose by the validation shots alone." in test
    assert test.endswith("Nothing was chosen.\n")


def test_the_figure_has_a_panel_per_dataset_and_a_row_per_variant(table, tmp_path):
    plot_ablation(tmp_path / "ablation.parquet", tmp_path / "gains", {"a": "Data A"})
    assert (tmp_path / "gains.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (tmp_path / "gains.svg").read_text()
    assert "Mean over datasets" not in drawn, "there is one"
    for text in ("Data A", *list(ACCURACIES)[1:], "4 shots"):
        assert f"<!-- {text} -->" in drawn
