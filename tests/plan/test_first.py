import yaml

from tests.plan.conftest import CONFIG, planned

CORES = 4  # of a laptop
FLOPS = 2e10  # that one of them does in a second


def test_the_first_real_table_is_small_enough_for_a_laptops_cpu():
    config = yaml.safe_load((CONFIG / "first.yaml").read_text())
    plan = planned(config, "config/first.yaml")
    assert list(plan.settings) == ["zero_shot", "linear_probe", "tip_adapter_f", "vt_clip"]
    assert len(plan.trainings()) == 1 + 3 * 2 * 2
    seconds = sum(training.work.flops for training in plan.trainings()) / (CORES * FLOPS)
    assert seconds < 600
    assert sum(archive.bytes for archive in plan.datasets["caltech101"].archives) < 200e6
