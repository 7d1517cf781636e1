"""`vtclip run` starts Snakemake on the package's workflow, with the user's options."""

import os
import sys
from pathlib import Path

import pytest

from vtclip.__main__ import main
from vtclip.paths import PROJECT

DEMO = str(PROJECT / "config/demo.yaml")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in an empty folder; returns Snakemake's arguments."""
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "execv", lambda program, command: started.append((program, command)))

    def run(*words):
        started.clear()
        assert not main(["run", *words])
        ((program, command),) = started
        assert [program, command[:3]] == [sys.executable, [sys.executable, "-Pm", "snakemake"]]
        return command[3:]

    return run


def write(path, text="name: mine\n"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_a_configuration_of_the_package_runs_by_its_name_on_all_cores(run):
    snakefile = str(PROJECT / "Snakefile")
    assert run("demo") == ["--cores", "all", "--snakefile", snakefile, "--configfile", DEMO]
    assert run("paper")[-1] == str(PROJECT / "config/config.yaml")


def test_a_configuration_of_the_current_folder_comes_first(run):
    write("config/demo.yaml")
    write("config/mine.yaml")
    write("other.yaml")
    assert run("demo", "mine", "other.yaml", "all-methods")[-4:] == [
        "config/demo.yaml", "config/mine.yaml", "other.yaml",
        str(PROJECT / "config/all-methods.yaml"),
    ]  # fmt: skip
    write("config/config.yaml")
    assert run("paper")[-1] == "config/config.yaml"


def test_options_and_the_targets_after_them_go_to_snakemake_as_they_are(run):
    options = ["--cores", "2", "--resources", "gpu=2", "-n", "fetch"]
    assert run("demo", *options)[2:] == [*options, "--configfile", DEMO]


@pytest.mark.parametrize("options", [["-c2"], ["--cores=2"], ["-j", "2"], ["--help"]])
def test_cores_are_added_only_where_they_are_missing(run, options):
    assert "all" not in run("demo", *options)


def test_the_folders_default_profile_is_found_before_the_packages(run):
    write("profiles/default/profile.yaml", "cores: 2\n")
    assert "all" not in run("demo")


def test_an_unknown_name_is_one_line_with_the_known_ones(run, capsys):
    assert main(["run", "dmo"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vtclip: CONFIG: Unknown configuration 'dmo'; known: ablation, ")
    assert said.endswith(". Did you mean 'demo'?\n")
    assert " paper" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\tb: 1\n", "line 2"), ("# Vögel", "Save it as UTF-8."),
        ("", "expected the keys of a configuration, found null"), ("- a\n", "found [a]"),
    ],
)  # fmt: skip
def test_a_file_that_snakemake_cannot_read_is_named_with_the_reason(run, capsys, text, expected):
    Path("mine.yaml").write_text(text, encoding="latin-1")
    assert main(["run", "mine.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vtclip: mine.yaml: ")
    assert expected in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--coers", "2"], "unrecognized arguments: --coers. Did you mean '--cores'?"),
        (["--profle=x"], "unrecognized arguments: --profle=x. Did you mean '--profile'?"),
        (["--cores"], "argument --cores/-c: expected one argument."),
    ],
)
def test_a_wrong_option_is_one_line_without_snakemakes_usage(run, capsys, options, expected):
    assert main(["run", "demo", *options]) == 2
    assert capsys.readouterr().err == f"vtclip: {expected} `snakemake --help` lists the options.\n"


def test_without_a_configuration_the_command_says_so(run, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--cores", "2"])
    said = capsys.readouterr().err
    assert "usage: vtclip run [-h] CONFIG ..." in said
    assert "vtclip run: error: unrecognized arguments: --cores; what comes first is above" in said
