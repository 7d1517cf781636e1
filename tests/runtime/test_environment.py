import os
import ssl
from pathlib import Path

import pytest

from vtclip.demo.__main__ import run_demo
from vtclip.runtime.environment import check_cache, check_profile, explain, trusted_certificates
from vtclip.settings import ConfigError


def make_error(code, message):
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def wrap(error):
    """Wrap an error as libraries do, so that its own message is lost."""
    try:
        try:
            raise error
        except Exception:
            raise FileNotFoundError("the hub cannot be reached")  # noqa: B904
    except FileNotFoundError as wrapped:
        return wrapped


def test_the_certificate_behind_a_library_s_error_is_named_with_the_variable_that_mends_it():
    said = explain(wrap(make_error(19, "self-signed certificate in certificate chain")))
    assert "self-signed certificate in certificate chain" in said
    assert "export SSL_CERT_FILE=" in said


def test_an_outdated_certificate_is_not_blamed_on_the_variable():
    said = explain(make_error(10, "certificate has expired"))
    assert "certificate has expired" in said
    assert "clock" in said
    assert "SSL_CERT_FILE" not in said


def test_an_error_is_explained_by_the_first_line_of_its_cause():
    assert explain(ValueError("one\ntwo")) == "one"
    assert explain(ValueError()) == "ValueError"
    assert explain(wrap(OSError("HF_HUB_OFFLINE is set"))) == "HF_HUB_OFFLINE is set"
    assert explain(wrap(OSError())) == "the hub cannot be reached"


def test_a_folder_of_certificates_is_given_to_the_libraries_that_read_one(tmp_path, monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with trusted_certificates():
        assert os.environ["SSL_CERT_DIR"] == str(tmp_path)
        assert "SSL_CERT_FILE" not in os.environ
    assert "SSL_CERT_DIR" not in os.environ


def test_a_file_without_certificates_is_named(tmp_path, monkeypatch):
    (tmp_path / "notes.pem").write_text("none here")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "notes.pem"))
    with pytest.raises(ConfigError, match=r"notes\.pem: no certificate in it"), (
        trusted_certificates()
    ):  # fmt: skip
        pass


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """Let HOME be a file, in which not even root can make a folder."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("no_home")
def test_a_home_that_cannot_be_written_is_one_line_before_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_demo([]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert str(tmp_path / "home") in said.err
    assert "HOME" in said.err
    assert "export XDG_CACHE_HOME=" in said.err


@pytest.mark.usefixtures("no_home")
def test_a_download_that_cannot_write_below_home_names_the_variable_for_another_folder(tmp_path):
    with pytest.raises(OSError, match="Not a directory") as refused:
        (tmp_path / "home/.cache/huggingface").mkdir(parents=True)
    assert "export XDG_CACHE_HOME=" in explain(wrap(refused.value))


@pytest.mark.usefixtures("no_home")
def test_the_named_folder_takes_the_place_of_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_cache()
    assert (tmp_path / "cache").is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cores", "2"],
        ["--workflow-profile", "none"],
        ["--workflow-profile=here"],
        ["-n", "--workflow-profile", "slurm"],
        ["--workflow-profile", "workflow/profiles/slurm"],
    ],
)
def test_a_profile_that_snakemake_finds_is_accepted(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "workflow/profiles/slurm", "project/profiles/slurm"):
        Path(folder).mkdir(parents=True)
    check_profile(arguments, "project")


def test_a_profile_that_does_not_exist_is_refused_with_the_nearest_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("project/profiles/slurm").mkdir(parents=True)
    with pytest.raises(ConfigError) as error:
        check_profile(["--workflow-profile", "workflow/profiles/slrum"], "project")
    assert str(error.value) == (
        "--workflow-profile: there is no profile workflow/profiles/slrum; known: slurm, and any "
        "folder with a config.yaml. Did you mean 'slurm'?"
    )
