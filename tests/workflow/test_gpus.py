"""Jobs on two pretend GPUs: a lease is taken for each, and the CPU computes."""

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.project import SEEDS, SHOTS

pytestmark = pytest.mark.workflow


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("VTCLIP_LEASES", str(tmp_path / "leases"))


@pytest.mark.parametrize(
    ("told", "limit"),
    [((), 2), (("--resources", "gpu=1"), 1), (("--config", "slots_per_gpu=2"), 4)],
)
def test_as_many_gpu_jobs_run_at_a_time_as_there_are_slots_or_as_the_command_line_says(
    changed, told, limit
):
    said = changed.run("results/demo/config.yaml", "--force", *told)
    assert re.search(rf'gpu=\S*\b(gpu", )?{limit}\b', said), said


def test_both_gpus_get_jobs_none_waits_and_neither_has_two_at_once(changed):
    shutil.rmtree(changed.folder / "logs")
    demo, key = Path("results/demo"), "glyph-clip-glyphs/digits/vt_clip"  # long enough to meet
    for made in ("heads", "predictions"):
        shutil.rmtree(changed.folder / demo / made / key)
    changed.run(str(demo / "predictions" / key / "digits.parquet"), "--cores", "4")
    held = changed.leases()
    assert set(held) == {"0", "1"}
    assert sum(map(len, held.values())) == len(SHOTS) * len(SEEDS) + 1  # and the prediction
    for times in held.values():
        for (_, end), (start, _) in pairwise(sorted(times)):
            assert end <= start
    logs = [log.read_text() for log in (changed.folder / "logs").rglob("*.log")]
    assert not any("Every GPU is taken" in log for log in logs)
