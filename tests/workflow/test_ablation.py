"""The ablation through the real Snakefile, after the embedded experiment."""

import polars as pl
import pytest

pytestmark = pytest.mark.workflow

ABLATION = """
ablation:
  shots: [1]
  seeds: [2]
  one_at_a_time: {heads: [1]}
"""


def test_an_ablation_adds_its_table_and_its_figure(changed):
    (changed.folder / "config" / "mine.yaml").write_text(ABLATION)
    said = changed.run(config=("config/demo.yaml", "config/mine.yaml"))
    assert "Training linear_probe" not in said, "the experiment ran again"
    table = pl.read_parquet(changed.folder / "results/demo/tables/ablation.parquet")
    assert table["variant"].unique(maintain_order=True).to_list() == ["as configured", "heads: 1"]
    assert set(table["images"]) == {"validation", "test"}
    assert (changed.folder / "results/demo/figures/ablation.png").stat().st_size > 0
