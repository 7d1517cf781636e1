import shutil

import pytest

import vtclip.runtime.code_hash
from vtclip.runtime.code_hash import code_hash

CACHED = (code_hash, vtclip.runtime.code_hash._read)


@pytest.fixture
def script(tmp_path):
    """A script that trains."""
    path = tmp_path / "script.py"
    path.write_text("from vtclip.training.train import train_head\ntrain_head()\n")
    return path


@pytest.fixture
def change(tmp_path, monkeypatch):
    """Changes a copy of the package: a module, and the text that is appended or replaced."""
    copy = tmp_path / "vtclip"
    shutil.copytree(
        vtclip.runtime.code_hash.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__")
    )

    def forget():
        for function in CACHED:
            function.cache_clear()

    def change(module, old="", new="\nCHANGED = True\n"):
        text = (copy / module).read_text()
        assert old in text
        (copy / module).write_text(text.replace(old, new, 1) if old else text + new)
        forget()

    monkeypatch.setattr(vtclip.runtime.code_hash, "PACKAGE", copy)
    forget()
    yield change
    forget()


def test_a_change_in_what_the_script_imports_changes_the_hash(change, script):
    before = code_hash(script)
    change("files.py")
    assert code_hash(script) != before


@pytest.mark.parametrize("module", ["features/extract.py", "plan/jobs.py", "cost.py"])
def test_a_change_in_what_it_does_not_run_changes_nothing(change, script, module):
    before = code_hash(script)
    change(module)
    assert code_hash(script) == before


def test_comments_docstrings_and_line_breaks_change_nothing(change, script):
    before = code_hash(script)
    for module in ("settings.py", "runtime/job.py", "methods/base.py"):
        change(module, new='\n# a comment\n\n\n"""More words."""\n')
    change("files.py", '"""Write `text` as UTF-8, atomically."""', '"""Write text."""')
    change("files.py", "write_text(path, json.dumps(", "write_text(\n        path, json.dumps(")
    assert code_hash(script) == before
    change("files.py", "indent=2", "indent=3")
    assert code_hash(script) != before


def test_an_import_inside_a_function_counts(change, script):
    before = code_hash(script, "vtclip.methods.vt_clip")
    change("nn/visual_guided.py")
    assert code_hash(script, "vtclip.methods.vt_clip") != before


def test_an_import_for_the_type_checker_alone_does_not(change, script):
    before = code_hash(script)
    change("files.py", new="\nif TYPE_CHECKING:\n    import vtclip.features.extract\n")
    assert code_hash(script) == before


def test_one_methods_code_is_not_part_of_anothers(change, script):
    before = code_hash(script, "vtclip.methods.zero_shot")
    change("methods/linear_probe.py")
    assert code_hash(script, "vtclip.methods.zero_shot") == before


def test_the_script_counts_by_content_and_not_by_time(tmp_path):
    script = tmp_path / "script.py"
    found = []
    for text in ("a = 1\n", "a = 1\n", "a = 2\n"):
        script.write_text(text)
        for function in CACHED:
            function.cache_clear()
        found.append(code_hash(script))
    assert found[0] == found[1] != found[2]


def test_a_module_that_does_not_exist_is_an_error(script):
    with pytest.raises(ModuleNotFoundError, match=r"vtclip\.trainning"):
        code_hash(script, "vtclip.trainning")
