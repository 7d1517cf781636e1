import logging

from vtclip.runtime.job import job_log, tell


def test_what_a_job_tells_is_in_its_log_and_on_the_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # a job sets them, and the level
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    with job_log(tmp_path / "a.log"):
        tell("3 files passed over")
        print("a detail")
    assert capfd.readouterr().err == "3 files passed over\n"
    log = (tmp_path / "a.log").read_text()
    assert "3 files passed over" in log
    assert "a detail" in log
