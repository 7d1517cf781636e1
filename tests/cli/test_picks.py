"""`vtclip picks`: the images of all runs, with checksums."""

import hashlib
from pathlib import Path

import yaml

from tests.project import ROOT
from vtclip.__main__ import main
from vtclip.cli.status import read_plan
from vtclip.data.pick_lists import find_list, read_picks
from vtclip.data.shots import find_rows, sample_shots
from vtclip.parquet import write_parquet


def test_the_lists_have_checksums_and_give_the_same_rows_again(
    tmp_path, monkeypatch, manifest, capsys
):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"shots": [1, 2]}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["picks", "mine.yaml"]) == 2
    assert "the images of 12 of 12 runs are not there yet" in capsys.readouterr().err
    samples = {}
    for dataset in config["datasets"]:
        for shots in (1, 2):
            for seed in config["seeds"]:
                sample = sample_shots(manifest, shots=shots, seed=seed)
                write_parquet(read_plan(["mine.yaml"]).sample_of(dataset, shots, seed), sample)
                samples[dataset, shots, seed] = sample
    assert main(["picks", "mine.yaml"]) == 0
    folder = Path("results/mine/picks")
    sums = dict(
        line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().split("\n") if line
    )
    assert len(sums) == 12
    for name, checksum in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum
    for (dataset, shots, seed), sample in samples.items():
        found = find_list(str(folder), dataset=dataset, shots=shots, seed=seed)
        assert find_rows(manifest, read_picks(found), source=found).equals(sample)
