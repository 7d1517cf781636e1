import pytest

from vtclip.files import write_json, writing


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_appears_only_when_the_block_has_ended(tmp_path):
    path = tmp_path / "deep" / "table.txt"
    with writing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_json_is_written_with_its_letters(tmp_path):
    write_json(tmp_path / "x.json", {"name": "São"})
    assert "São" in (tmp_path / "x.json").read_text(encoding="utf-8")
