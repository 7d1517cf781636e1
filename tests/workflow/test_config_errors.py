"""A wrong configuration or target stops Snakemake before any job, with one error.

tests/plan has a test for everything that can be wrong.
"""

import pytest

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("  vt_clip:", "  vtclip:", "Unknown method 'vtclip'"),
        ("seeds: [1, 2, 3]", "seeds: [1]\nseeds: [7]", "the key 'seeds' is given twice"),
    ],
    ids=["an unknown method", "a key given twice"],
)
def test_a_wrong_configuration_is_refused_before_any_job(fresh, tmp_path, old, new, error):
    text = (fresh.folder / "config/demo.yaml").read_text()
    assert old in text
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace(old, new))
    done = fresh.snakemake(config=[str(config)])
    assert done.returncode != 0
    assert error in done.stdout
    assert "Nothing was run." in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.folder / "results").exists()


@pytest.mark.parametrize(
    "target",
    [
        "results/demo/heads/glyph-clip-glyphs/digits/vt_clip/4shot-seed9/head.safetensors",
        pytest.param("results/features/nothing/digits/texts.parquet", marks=pytest.mark.slow),
        pytest.param("resources/archives/caltech101/nothing.zip.json", marks=pytest.mark.slow),
    ],
)
def test_a_target_that_the_experiment_does_not_have_is_refused_in_one_sentence(fresh, target):
    done = fresh.snakemake("--dry-run", target)
    assert done.returncode != 0
    assert f"No rule to produce {target}" in done.stdout
    for word in ("Traceback", "KeyError", "InputFunctionException"):
        assert word not in done.stdout
