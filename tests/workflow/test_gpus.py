"""Jobs on two pretend GPUs: each takes a lease, and the CPU computes."""

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
    monkeypatch.setenv("VTCLIP_PRETEND_GPUS", "1")
    monkeypatch.setenv("VTCLIP_LEASES", str(tmp_path / "leases"))


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (("--config", "slots_per_gpu=2"), 4),
        pytest.param(("--resources", "gpu=1"), 1, marks=pytest.mark.slow),
    ],
)
def test_gpu_jobs_are_limited_to_the_slots_or_to_what_the_command_line_says(
    changed, arguments, limit
):
    said = changed.run("results/demo/config.yaml", "--force", *arguments)
    assert re.search(rf'gpu=\S*\b(gpu", )?{limit}\b', said), said


def test_both_gpus_get_jobs_no_job_waits_and_no_gpu_has_two_at_once(changed):
    shutil.rmtree(changed.folder / "logs")
    demo, key = Path("results/demo"), "glyph-clip-glyphs/digits/vt_clip"  # long enough to meet
    for made in ("heads", "predictions"):
        shutil.rmtree(changed.folder / demo / made / key)
    changed.run(str(demo / "predictions" / key / "digits.parquet"), "--cores", "4")
    leased = changed.leases()
    assert set(leased) == {"0", "1"}
    assert sum(map(len, leased.values())) == len(SHOTS) * len(SEEDS) + 1  # and the prediction
    for times in leased.values():
        for (_, end), (start, _) in pairwise(sorted(times)):
            assert end <= start
    logs = [log.read_text() for log in (changed.folder / "logs").rglob("*.log")]
    assert not any("Every GPU is taken" in log for log in logs)
