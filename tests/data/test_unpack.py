import io
import json
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from vtclip.data import unpack
from vtclip.data.unpack import Archive, UnpackError, unpack_archives
from vtclip.files import sha256_of, write_record


def tar(path, members, mode="w:gz"):
    """Write a tar; a member is (name, content) or a TarInfo."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, content = member
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images" / "dtd"


def run(folder, *archives, **arguments):
    archives = [a if isinstance(a, Archive) else Archive(a) for a in archives]
    return unpack_archives(archives, folder, folder.with_suffix(".json"), **arguments)


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def refused(folder, archive, match, **arguments):
    """Nothing may be left where the dataset would be looked for, nor beside it; gives the error."""
    with pytest.raises(UnpackError, match=match) as error:
        run(folder, archive, **arguments)
    path = archive.path if isinstance(archive, Archive) else archive
    assert path.name in str(error.value)
    assert not folder.exists()
    assert not folder.with_suffix(".json").exists()
    assert {path.name for path in folder.parent.glob(".*")} <= {".dtd.json.lock"}
    return str(error.value)


FILES = [("top/a/1.jpg", b"one"), ("top/b/2.jpg", b"two")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_compression_is_unpacked(tmp_path, folder, mode):
    assert run(folder, tar(tmp_path / "x.archive", FILES, mode)) == 2
    assert tree(folder) == dict(FILES)
    assert folder.with_suffix(".json").exists()


def test_a_zip_is_unpacked_and_other_files_are_copied(tmp_path, folder):
    (tmp_path / "split.json").write_text("{}")
    run(folder, zipped(tmp_path / "x.zip", FILES), tmp_path / "split.json")
    assert tree(folder) == dict(FILES) | {"split.json": b"{}"}


def test_a_split_file_that_changed_after_it_was_fetched_is_refused(tmp_path, folder):
    split = tmp_path / "split.json"
    split.write_text("{}")
    write_record(tmp_path / "split.json.json", {"sha256": sha256_of(split)})
    run(folder, split)
    split.write_text("{} ")
    with pytest.raises(UnpackError, match=r"split\.json: it has changed.*split\.json\.json"):
        run(folder, split)


def test_only_wanted_files_come_out_whatever_folder_is_above_them(tmp_path, folder):
    archive = zipped(tmp_path / "x.zip", [*FILES, ("__MACOSX/a/._1.jpg", b"junk")])
    run(folder, archive, wanted=["a/1.jpg"])
    assert tree(folder) == {"a/1.jpg": b"one"}


def test_a_tar_inside_a_zip_is_unpacked_as_caltech101_needs_it(tmp_path, folder):
    inner = tar(tmp_path / "inner.tar.gz", FILES).read_bytes()
    archive = zipped(tmp_path / "x.zip", [("c/inner.tar.gz", inner), ("c/notes.txt", b"no")])
    run(folder, Archive(archive, nested="*/inner.tar.gz"), wanted=["a/1.jpg", "b/2.jpg"])
    assert tree(folder) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


def test_a_tar_of_tars_gets_a_folder_for_each_as_imagenet_needs_it(tmp_path, folder):
    inner = [
        (f"{wnid}.tar", tar(tmp_path / wnid, [(f"{wnid}_1.JPEG", b"x")], "w").read_bytes())
        for wnid in ("n01", "n02")
    ]
    outer = tar(tmp_path / "train.tar", inner, "w")
    run(folder, Archive(outer, into="train/{stem}", nested="*.tar"))
    assert set(tree(folder)) == {"train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG"}


LINK = zipfile.ZipInfo("a/1.jpg")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    ("make", "member", "match"),
    [
        ("tar", ("/etc/passwd", b""), "'/etc/passwd' is an absolute path"),
        ("zipped", ("/etc/passwd", b""), "'/etc/passwd' is an absolute path"),
        ("tar", ("a/../../b", b""), "leads out of the folder"),
        ("zipped", ("..\\b", b""), "leads out of the folder"),
        ("tar", ("a/1.jpg", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link to '/etc/passwd'"),
        ("zipped", (LINK, "/etc/passwd"), "expected a plain file"),
        ("tar", ("a/1.jpg", tarfile.LNKTYPE, "/etc/passwd"), "hard link to '/etc/passwd'"),
        ("tar", ("a/1.jpg", tarfile.CHRTYPE, ""), "is a device"),
    ],
)
def test_a_member_that_is_no_plain_file_inside_the_folder_is_refused(
    tmp_path, folder, make, member, match
):
    if len(member) == 3:
        member = special(*member)
    pack = {"tar": tar, "zipped": zipped}[make]
    refused(folder, pack(tmp_path / "x", [member]), match)
    assert not (tmp_path / "b").exists()


def test_writing_through_a_link_is_impossible(tmp_path, folder):
    link = special("a", tarfile.SYMTYPE, str(tmp_path / "outside"))
    (tmp_path / "outside").mkdir()
    refused(folder, tar(tmp_path / "x.tgz", [link, ("a/1.jpg", b"x")]), "symbolic link")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_bomb_of_one_file_or_of_many_is_refused_before_it_fills_the_disk(
    tmp_path, folder, monkeypatch
):
    monkeypatch.setattr(unpack, "SPARE", 1000)
    zeros, many = [("a.jpg", bytes(5_000_000))], [(f"{n}.jpg", bytes(2000)) for n in range(2000)]
    refused(folder, zipped(tmp_path / "x.zip", zeros), "more than 4 times")
    for members in (zeros, many):
        refused(folder, tar(tmp_path / "x.tgz", members), "more than 4 times")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
def test_a_truncated_archive_is_refused_and_nothing_is_left(tmp_path, folder, kind, share):
    import random

    noise = random.Random(0).randbytes
    files = [(f"top/{number}.jpg", noise(5000)) for number in range(20)]
    whole = tmp_path / f"x.{kind}"
    zipped(whole, files) if kind == "zip" else tar(whole, files, "w:gz" if kind == "tgz" else "w")
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    refused(folder, whole, rf"broken or cut off.*Delete it and x\.{kind}\.json beside it")


def test_a_tar_cut_between_two_members_is_refused(tmp_path, folder):
    whole = tar(tmp_path / "x.tar", FILES, "w")
    whole.write_bytes(whole.read_bytes()[: 2 * 512])
    refused(folder, whole, "broken or cut off")


def patch(path, place, change):
    """Change the byte so far into a zip's first header, and the same one in its directory."""
    content = bytearray(path.read_bytes())
    for start in (content.find(b"PK\x03\x04"), content.find(b"PK\x01\x02") + 2):
        content[start + place] = change(content[start + place])
    path.write_bytes(content)
    return path


def encrypt(path):
    return patch(path, 6, lambda flags: flags | 1)


def test_an_encrypted_zip_is_named_with_the_way_to_use_it(tmp_path, folder):
    archive = encrypt(zipped(tmp_path / "x.zip", FILES))
    refused(folder, archive, r"x\.zip: 'top/a/1\.jpg' is encrypted. Unpack it with its password")
    nested = encrypt(zipped(tmp_path / "inner.zip", [("x.zip", archive.read_bytes())]))
    refused(folder, Archive(nested, nested="*.zip"), r"inner\.zip: 'x\.zip' is encrypted")


@pytest.mark.parametrize("method", [9, 1, 97])  # deflate64, shrink, WavPack
def test_a_method_of_compression_that_is_not_supported_is_not_called_broken(
    tmp_path, folder, method
):
    archive = patch(zipped(tmp_path / "x.zip", FILES), 8, lambda _: method)
    assert "download" not in refused(folder, archive, "cannot be read here.*pack it again as a zip")


NO_ARCHIVES = {
    "RAR archive": b"Rar!\x1a\x07\x01\x00",
    "7z archive": b"7z\xbc\xaf\x27\x1c",
    "compressed by zstd": b"\x28\xb5\x2f\xfd\x24",
    "compressed by lz4": b"\x04\x22\x4d\x18",
    "web page": b"\n<!DOCTYPE html><title>Sign in</title>",
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "no archive": b'{"error": "not found"}',
    "empty": b"",
}


@pytest.mark.parametrize("kind", NO_ARCHIVES)
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_what_is_called_an_archive_and_is_none_is_said_to_be_what_it_is(
    tmp_path, folder, kind, suffix
):
    archive = tmp_path / f"x.{suffix}"
    archive.write_bytes(NO_ARCHIVES[kind])
    refused(folder, archive, f"it is .*{kind}|it is {kind}", wanted=["a/1.jpg"])


@pytest.mark.parametrize(
    "name",
    ["a\\1.jpg", "A/1.jpg", "top/a/1.JPG", "caf\u251c\u2310/1.jpg", "cafe\u0301/1.jpg"],
    ids=["backslash", "folder", "suffix", "cp437", "NFD"],
)
def test_names_that_differ_in_case_slashes_or_encoding_are_set_beside_the_split_s(
    tmp_path, folder, name
):
    wanted = "caf\u00e9/1.jpg" if "caf" in name else "a/1.jpg"
    archive = zipped(tmp_path / "x.zip", [(name, b"one"), FILES[1]])
    error = refused(folder, archive, "differ in case, slashes or encoding", wanted=[wanted])
    assert error.startswith("in no archive: 1 of the 1 images of the split\n")
    assert f"\n  expected: {wanted}\n" in error
    assert f"{archive}: {name}, top/b/2.jpg" in error
    assert f"{name!a} and {wanted!a}" in error


def test_an_archive_without_some_of_the_wanted_files_says_so_in_few_words(tmp_path, folder):
    archive = zipped(tmp_path / "x.zip", [*FILES, *((f"{n}.txt", b"") for n in range(1000))])
    wanted = ["a/1.jpg", *(f"c/{number}.jpg" for number in range(1000))]
    error = refused(folder, archive, "1,000 of the 1,001 images of the split", wanted=wanted)
    assert "c/0.jpg, c/1.jpg" in error
    assert len(error) < 1000


def test_images_that_the_dataset_leaves_out_may_be_missing(tmp_path, folder):
    archive = zipped(tmp_path / "x.zip", FILES)
    run(folder, archive, wanted=["a/1.jpg", "c/3.jpg"], left_out=["c/3.jpg"])
    assert tree(folder) == {"a/1.jpg": b"one"}


def test_archives_without_any_file_are_refused(tmp_path, folder):
    archive = zipped(tmp_path / "x.zip", [])
    refused(folder, archive, r"no files in the archives\n  found: .*x\.zip: nothing")


def test_an_archive_without_the_nested_ones_says_so(tmp_path, folder):
    archive = Archive(zipped(tmp_path / "x.zip", FILES), into="train/{stem}", nested="*.tar")
    refused(folder, archive, r"x\.zip: no member of it is called \*\.tar .*\n.*top/a/1")


NAMES = {
    "two members of one name": ("top/a.jpg", "top/a.jpg", "two members have the name 'top/a.jpg'"),
    "two of one wanted name": ("one/b.jpg", "two/b.jpg", "two members have the name 'b.jpg'"),
    "not UTF-8": ("caf\udce9.jpg", "b.jpg", r"caf\\xe9.*not UTF-8"),
}


@pytest.mark.parametrize(("one", "other", "match"), NAMES.values(), ids=NAMES)
def test_names_that_are_no_names_of_one_file_each_are_refused(tmp_path, folder, one, other, match):
    archive = tar(tmp_path / "x.tgz", [(one, b"1"), (other, b"2")])
    refused(folder, archive, match, wanted=["top/a.jpg", "b.jpg"])


@pytest.mark.parametrize(
    ("into", "match"),
    [
        ("../outside", "leads out of the folder"),
        ("a/../../outside", "leads out of the folder"),
        ("/nowhere/outside", "is an absolute path"),
    ],
)
@pytest.mark.parametrize("nested", [None, "*.tar"])
def test_a_folder_to_unpack_into_that_leads_out_is_refused(tmp_path, folder, into, match, nested):
    inner = tar(tmp_path / "inner.tar", FILES, "w")
    archive = tar(tmp_path / "x.tar", [("inner.tar", inner.read_bytes())], "w")
    archive = Archive(archive, into=into, nested=nested)
    refused(folder, archive, f"x.tar: .*outside.*{match}")
    assert not list(tmp_path.rglob("outside"))


def test_a_nested_archive_whose_name_would_lead_out_is_refused(tmp_path, folder):
    inner = tar(tmp_path / "inner", FILES, "w").read_bytes()
    archive = tar(tmp_path / "x.tar", [("a/.tar", inner)], "w")
    archive = Archive(archive, into=".{stem}.", nested="*.tar")
    refused(folder, archive, r"'\.\./top/a/1\.jpg' leads out of the folder")


@pytest.mark.parametrize("nested", [None, "*.tar"])
def test_an_archive_of_endless_members_is_refused(tmp_path, folder, monkeypatch, nested):
    monkeypatch.setattr(unpack, "MEMBERS", 5)
    inner = [(f"{number}.jpg", b"") for number in range(3)]
    content = tar(tmp_path / "inner.tar", inner, "w").read_bytes()
    outer = [(f"{number}.tar", content) for number in range(2)] + (inner if not nested else [])
    five = tar(tmp_path / "five.tgz", outer[:5])
    if not nested:
        assert run(folder, five) == 5
    archive = tar(tmp_path / "x.tgz", [*outer, ("last.jpg", b"")])
    with pytest.raises(UnpackError, match=r"x.tgz: it has more than 5 members"):
        run(folder, Archive(archive, into="{stem}", nested=nested))


# Unpacks after a line of input, a little at a time.
SLOWLY = """
import sys, time
from pathlib import Path
from vtclip.data.unpack import Archive, _Unpacker, unpack_archives
write = _Unpacker._write
_Unpacker._write = lambda *arguments: (time.sleep(0.002), write(*arguments))
archive, folder = map(Path, sys.argv[1:])
print("ready", flush=True)
input()
print(unpack_archives([Archive(archive)], folder, folder.with_suffix(".json")))
"""


def test_two_unpackings_of_one_dataset_at_once_lose_nothing(tmp_path, folder):
    files = {f"{number % 7}/{number}.jpg": str(number).encode() for number in range(200)}
    archive = tar(tmp_path / "x.tar", files.items(), "w")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SLOWLY, archive, folder], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
        while not list(folder.parent.rglob("*.jpg")):  # the second comes in the midst of the first
            assert both[0].poll() is None
            time.sleep(0.01)
    assert [process.communicate()[0] for process in both] == ["200\n"] * 2
    assert tree(folder) == files
    assert json.loads(folder.with_suffix(".json").read_text())["files"] == 200


def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path, folder, monkeypatch):
    def full(self, target, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack._Unpacker, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        run(folder, tar(tmp_path / "x.tgz", FILES))
    assert not folder.exists()


def test_an_earlier_folder_stays_when_a_new_archive_is_broken(tmp_path, folder):
    run(folder, tar(tmp_path / "x.tgz", FILES))
    with pytest.raises(UnpackError):
        run(folder, tar(tmp_path / "y.tgz", [("/a", b"")]))
    assert tree(folder) == dict(FILES)
