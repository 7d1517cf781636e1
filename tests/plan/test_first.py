import yaml

from tests.plan.conftest import CONFIG, planned, training


def test_the_first_real_table_is_small_enough_for_a_laptops_cpu():
    config = yaml.safe_load((CONFIG / "first.yaml").read_text())
    plan = planned(config, "config/first.yaml", device="cpu")
    assert list(plan.settings) == ["zero_shot", "linear_probe", "tip_adapter_f", "vt_clip"]
    assert len(plan.own_runs) == 1 + 3 * 2 * 2
    minutes = sum(training(plan, run).runtime for run in plan.own_runs)
    assert minutes < 90, "on one core, with two of reserve for each"
    assert sum(archive.bytes for archive in plan.datasets["caltech101"].archives) < 200e6
