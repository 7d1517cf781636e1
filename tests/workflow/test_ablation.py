"""The ablation through the real Snakefile, after the embedded experiment."""

import polars as pl
import pytest

pytestmark = pytest.mark.workflow

ABLATION = """
ablation:
  shots: [1]
  seeds: [2]
  one_at_a_time: {heads: [1], spatial: [raw]}
"""
CONFIGS = ("config/demo.yaml", "config/mine.yaml")


def test_an_ablation_plans_its_variants_and_leaves_the_experiment_as_it_is(changed):
    (changed.folder / "config" / "mine.yaml").write_text(ABLATION)
    planned = changed.plan(*CONFIGS)
    assert not any("linear_probe" in job for job in planned), "the experiment ran again"
    trainings = {job for job in planned if job.startswith("Training")}
    assert trainings == {
        f"Training vt_clip@{variant} on {dataset}: 1 shots, seed 2 (glyph-clip-glyphs{kind})"
        for variant, kind in (("heads=1", ""), ("spatial=raw", "-raw"))
        for dataset in ("digits", "letters")
    }


def test_an_ablation_adds_its_table_and_its_figure(changed):
    (changed.folder / "config" / "mine.yaml").write_text(ABLATION.replace(", spatial: [raw]", ""))
    changed.run(config=CONFIGS)
    table = pl.read_parquet(changed.folder / "results/demo/tables/ablation.parquet")
    assert table["variant"].unique(maintain_order=True).to_list() == ["as configured", "heads: 1"]
    assert set(table["images"]) == {"validation", "test"}
    assert (changed.folder / "results/demo/figures/ablation.png").stat().st_size > 0
    assert changed.plan(*CONFIGS) == set()
    assert changed.plan() == {"Saving the configuration", "Writing the report"}
