"""A wrong configuration stops before any job, with the cure."""

import pytest

pytestmark = pytest.mark.workflow

# What is wrong: the text that is replaced, by what, and what the error must say.
WRONG = {
    "a misspelt key": ("seeds: [1, 2, 3]", "seed: [1]", ["seed: there is no such key", "seeds:"]),
    "a wrong type": ("shots: [1, 2, 4, 8, 16]", "shots: many", ["found:    shots: many", "write:"]),
    "an unknown dataset": ("letters]", "letter]", ["Unknown dataset 'letter'", "'letters'?"]),
    "an unknown method": ("  vt_clip:", "  vtclip:", ["Unknown method 'vtclip'", "vt_clip"]),
    "a bad setting": ("weight_decay: 3.0", "heads: 0", ["methods.vt_clip: heads"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_it_is_refused_in_a_few_lines_before_any_job(fresh, tmp_path, case):
    old, new, expected = WRONG[case]
    text = (fresh.folder / "config/demo.yaml").read_text()
    assert old in text
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace(old, new))
    done = fresh.snakemake(config=[str(config)])
    assert done.returncode != 0
    assert "Nothing was run." in done.stdout
    for part in expected:
        assert part in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.folder / "results").exists()


UNKNOWN = (
    "results/features/nothing/digits/texts.parquet",
    "resources/archives/caltech101/nothing.zip.json",
    "results/demo/heads/glyph-clip-glyphs/digits/vt_clip/4shot-seed9/head.safetensors",
)


@pytest.mark.parametrize("target", UNKNOWN)
def test_a_target_that_the_experiment_does_not_have_is_told_in_one_sentence(fresh, target):
    done = fresh.snakemake("--dry-run", target)
    assert done.returncode != 0
    assert f"No rule to produce {target}" in done.stdout
    for word in ("Traceback", "KeyError", "InputFunctionException"):
        assert word not in done.stdout


def test_a_key_that_is_given_twice_is_refused_before_any_job(fresh, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text((fresh.folder / "config/demo.yaml").read_text() + "seeds: [7]\n")
    done = fresh.snakemake(config=[str(config)])
    assert done.returncode != 0
    assert "mine.yaml: not readable as YAML: the key 'seeds' is given twice" in done.stdout
    assert "Nothing was run." in done.stdout
