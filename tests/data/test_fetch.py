import hashlib
import signal
import subprocess
import sys
import time

import gdown
import pytest

from tests.data.conftest import CERTIFICATE, CONTENT, Handler
from vtclip.data.fetch import (
    Expected,
    FetchError,
    fetch_archive,
    marker_of,
    part_of,
)
from vtclip.data.inventory import mirror_addresses
from vtclip.files import read_record
from vtclip.runtime.environment import BUNDLES
from vtclip.settings import ConfigError

RIGHT = Expected(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
WRONG = bytes(len(CONTENT))


@pytest.fixture
def fetch(tmp_path, server):
    """Fetch paths of the server into archive.zip, and give the receipt."""

    def run(*paths, expected=RIGHT):
        addresses = [path if "/" in path[1:] else server.address(path) for path in paths]
        return fetch_archive(
            addresses, tmp_path / "archive.zip", tmp_path / "archive.zip.json", expected, pause=0.01
        )

    return run


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive.zip"


def nothing_is_in_place(archive):
    return not archive.exists() and not archive.with_name("archive.zip.json").exists()


def test_a_file_is_fetched_with_a_receipt_and_head_is_never_requested(fetch, server, archive):
    receipt = fetch("/file")
    assert archive.read_bytes() == CONTENT
    assert receipt["address"] == server.address("/file")
    assert receipt["sha256"] == RIGHT.sha256
    assert receipt["bytes"] == len(CONTENT)
    assert read_record(archive.with_name("archive.zip.json")) == receipt
    assert [method for method, *_ in server.requests] == ["GET"]


def test_a_connection_cut_at_30_percent_twice_is_resumed_without_sending_anything_twice(
    fetch, server, archive
):
    third = len(CONTENT) * 3 // 10
    server.behaviours["/file"] = lambda handler, number: handler.serve(
        cut=third * number if number < 3 else None
    )
    fetch("/file")
    assert archive.read_bytes() == CONTENT
    assert sum(server.sent) == len(CONTENT)
    assert [requested for *_, requested in server.requests] == [
        None, f"bytes={third}-", f"bytes={2 * third}-"
    ]  # fmt: skip


def test_wrong_bytes_are_refused_and_deleted_and_the_next_address_is_tried(fetch, server, archive):
    server.behaviours["/wrong"] = lambda handler, _: handler.serve(content=WRONG)
    receipt = fetch("/wrong", "/right")
    assert archive.read_bytes() == CONTENT
    assert receipt["address"] == server.address("/right")
    assert server.requests[1][2] is None  # nothing of the wrong bytes was kept


def test_wrong_bytes_everywhere_are_an_error_with_both_checksums(fetch, server, archive):
    server.behaviours["/wrong"] = lambda handler, _: handler.serve(content=WRONG)
    with pytest.raises(FetchError, match=f"expected sha256 {RIGHT.sha256}, found"):
        fetch("/wrong")
    assert nothing_is_in_place(archive)
    assert list(archive.parent.glob("*.part")) == []


def test_a_part_of_one_address_is_never_continued_from_another_and_removed_in_the_end(
    fetch, server, archive
):
    server.behaviours["/wrong"] = lambda handler, _: handler.serve(content=WRONG, cut=300_000)
    with pytest.raises(FetchError):
        fetch("/wrong")
    assert part_of(archive, server.address("/wrong")).stat().st_size == 300_000
    archive.with_name("archive.zip.part1").touch()  # somebody else's
    assert fetch("/wrong", "/right")["address"] == server.address("/right")
    assert archive.read_bytes() == CONTENT
    assert [requested for _, path, requested in server.requests if path == "/right"] == [None]
    parts = [path.name for path in archive.parent.iterdir() if ".part" in path.name]
    assert parts == ["archive.zip.part1"]


@pytest.mark.parametrize("length", [300_000, len(CONTENT), len(CONTENT) + 5])
def test_a_resumed_download_that_is_wrong_is_fetched_once_more_from_zero(
    fetch, server, archive, length
):
    part_of(archive, server.address("/file")).write_bytes(bytes(length))
    fetch("/file")
    assert archive.read_bytes() == CONTENT
    assert server.requests[-1][2] is None


def test_a_download_that_is_wrong_from_zero_too_is_given_up(fetch, server, archive):
    server.behaviours["/wrong"] = lambda handler, number: handler.serve(
        content=WRONG, cut=300_000 if number == 1 else None
    )
    with pytest.raises(FetchError, match="expected sha256"):
        fetch("/wrong")
    assert [requested for *_, requested in server.requests] == [None, "bytes=300000-", None]
    assert marker_of(archive).exists()


def test_md5_is_checked_if_there_is_no_sha256(fetch, server, archive):
    fetch("/file", expected=Expected(None, None, MD5))
    archive.unlink()
    server.behaviours["/wrong"] = lambda handler, _: handler.serve(content=WRONG)
    with pytest.raises(FetchError, match=f"expected md5 {MD5}, found"):
        fetch("/wrong", expected=Expected(None, None, MD5))


PAGE = {"content": b"<html>log in</html>", "kind": "text/html; charset=utf-8"}
POINTER = {"content": b"version https://git-lfs.github.com/spec/v1\n"}


@pytest.mark.parametrize(
    ("served", "said"),
    [(PAGE, "a web page came in place"), (POINTER, "a pointer of Git LFS came in place")],
)
def test_a_web_page_or_a_pointer_of_git_lfs_with_status_200_is_no_file(
    fetch, server, archive, served, said
):
    server.behaviours["/page"] = lambda handler, _: handler.serve(**served)
    with pytest.raises(FetchError, match=f"{said} of the file"):
        fetch("/page", expected=Expected())
    assert nothing_is_in_place(archive)
    assert len(server.requests) == 1
    fetch("/page", "/file")
    assert archive.read_bytes() == CONTENT


def test_429_is_tried_again_after_the_time_that_the_server_asks_for(fetch, server, archive):
    times = []

    def busy(handler, number):
        times.append(time.monotonic())
        if number > 1:
            return handler.serve()
        handler.send_response(429)
        handler.send_header("Retry-After", "1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.behaviours["/file"] = busy
    fetch("/file")
    assert archive.read_bytes() == CONTENT
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("status", [403, 404])
def test_403_and_404_go_on_to_the_next_address_at_once(fetch, server, archive, status):
    server.behaviours["/gone"] = lambda handler, _: handler.send_error(status)
    fetch("/gone", "/file")
    assert [path for _, path, _ in server.requests] == ["/gone", "/file"]


def redirect_to(address):
    def redirect(handler, _):
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return redirect


def send_another_range(handler, number):
    if number != 2:
        return handler.serve(cut=300_000 if number == 1 else None)
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.send_header("Content-Length", str(len(CONTENT) - 5))
    handler.end_headers()
    handler.wfile.write(CONTENT[5:])


ODD = {
    "ignores the range": lambda handler, number: handler.serve(
        ranges=False, cut=300_000 if number == 1 else None
    ),
    "goes on from another place": send_another_range,
    "fails twice": lambda handler, number: (
        handler.send_error(500) if number < 3 else handler.serve()
    ),
    "drips": lambda handler, _: handler.serve(pause=0.1),
    "redirects": redirect_to("/file"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_server_with_odd_ways_gives_the_whole_file(fetch, server, archive, kind):
    server.behaviours["/odd"] = ODD[kind]
    fetch("/odd", expected=Expected())
    assert archive.read_bytes() == CONTENT


def test_a_redirect_in_circles_goes_on_to_the_next_address(fetch, server, archive):
    server.behaviours["/circle"] = redirect_to("/circle")
    fetch("/circle", "/file")
    assert archive.read_bytes() == CONTENT
    assert len(server.requests) < 30  # httpx follows 20 redirects, once


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/file", "data:,x"])
def test_a_redirect_to_what_is_no_web_address_is_refused_at_once(fetch, server, archive, address):
    server.behaviours["/moved"] = redirect_to(address)
    with pytest.raises(FetchError, match="/moved: "):
        fetch("/moved")
    assert len(server.requests) == 1
    assert marker_of(archive).exists()


def test_a_server_that_announces_another_length_is_refused_before_it_sends(fetch, server, archive):
    server.behaviours["/lie"] = lambda handler, _: handler.serve(content=CONTENT + b"more")
    with pytest.raises(FetchError, match=r"announces 1,024,004 bytes, expected 1,024,000"):
        fetch("/lie")
    assert nothing_is_in_place(archive)


def test_more_bytes_than_expected_without_a_length_are_refused(fetch, server, archive):
    def endless(handler, _):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT + b"more")

    server.behaviours["/endless"] = endless
    with pytest.raises(FetchError, match="more than the expected 1,024,000 bytes came"):
        fetch("/endless")
    assert nothing_is_in_place(archive)


def test_when_all_addresses_fail_each_is_named_with_its_reason_and_the_place_for_the_file(
    fetch, server, archive
):
    server.behaviours["/gone"] = lambda handler, _: handler.send_error(404)
    server.behaviours["/wrong"] = lambda handler, _: handler.serve(content=WRONG)
    with pytest.raises(FetchError) as error:
        fetch("/gone", "/wrong", "/no/such/file.zip")
    message = str(error.value)
    assert f"{server.address('/gone')}: status 404" in message
    assert f"{server.address('/wrong')}: expected sha256" in message
    assert "/no/such/file.zip: there is no such file" in message
    assert f"Put the file at {archive} by hand" in message
    assert marker_of(archive).read_text().startswith(f"{message}\n")


TROUBLES = {
    "/drop": lambda handler, _: handler.connection.close(),
    "/cut": lambda handler, _: handler.serve(cut=300_000),
    "/silent": lambda handler, _: time.sleep(0.2),
    "/busy": lambda handler, _: handler.send_error(503),
    "/login": lambda handler, _: handler.send_error(511),
    "/login-page": lambda handler, _: handler.serve(content=b"<html>log in", kind="text/html"),
    "/login-page-as-a-file": lambda handler, _: handler.serve(
        content=b"\n<!DOCTYPE html><title>log in</title>".ljust(RIGHT.bytes)
    ),
    "/circle": redirect_to("/circle"),
}


@pytest.mark.parametrize("path", [*TROUBLES, "http://127.0.0.1:9/nobody-listens", "gdrive:abc/"])
def test_no_connection_leaves_no_marker(fetch, server, archive, monkeypatch, path):
    def download(**_):
        raise gdown.exceptions.FileURLRetrievalError("Too many users have viewed this file")

    monkeypatch.setattr(gdown, "download", download)
    if path == "/silent":
        monkeypatch.setattr("vtclip.data.fetch.TIMEOUT", 0.05)
    server.behaviours |= TROUBLES | {"/gone": lambda handler, _: handler.send_error(404)}
    with pytest.raises(FetchError, match="Or only run again") as error:
        fetch("/gone", path)
    assert f"{server.address('/gone')}: status 404" in str(error.value)
    assert f"{path}: " in str(error.value)
    assert not marker_of(archive).exists()
    assert not archive.exists()


@pytest.fixture
def no_variables(monkeypatch):
    """Take away the variables for certificates, and what a download adds to them."""
    for name in (*BUNDLES, "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_variables")
def test_an_unknown_certificate_is_refused_at_once_with_the_variable_to_set(
    fetch, https_server, archive
):
    expected = "certificate verify failed: self-signed certificate.*export SSL_CERT_FILE="
    with pytest.raises(FetchError, match=expected) as error:
        fetch(https_server.address())
    assert "try 5" not in str(error.value)
    assert https_server.requests == []
    assert not marker_of(archive).exists()


@pytest.mark.usefixtures("no_variables")
@pytest.mark.parametrize("name", BUNDLES)
def test_each_library_s_variable_for_certificates_is_used(
    fetch, https_server, archive, monkeypatch, name
):
    monkeypatch.setenv(name, str(CERTIFICATE))
    fetch(https_server.address())
    assert archive.read_bytes() == CONTENT


@pytest.mark.parametrize("name", BUNDLES)
def test_a_variable_that_names_no_file_of_certificates_is_named_and_no_try_is_made(
    fetch, https_server, monkeypatch, name
):
    monkeypatch.setenv(name, "/no/such.pem")
    with pytest.raises(ConfigError, match=rf"{name}.*\n.*/no/such\.pem: No such file"):
        fetch(https_server.address())
    assert https_server.requests == []


def test_a_file_put_in_place_by_hand_is_verified_and_used_without_any_request(
    fetch, server, archive
):
    archive.write_bytes(CONTENT)
    marker_of(archive).write_text("an earlier run failed")
    assert fetch("/file")["address"] == "in place"
    assert server.requests == []
    assert not marker_of(archive).exists()


def test_a_wrong_file_put_in_place_is_named_and_left_as_it_is(fetch, server, archive):
    archive.write_bytes(WRONG)
    with pytest.raises(FetchError, match=r"archive\.zip: .*not the right one: expected sha256"):
        fetch("/file")
    assert archive.read_bytes() == WRONG


def test_a_download_killed_in_the_middle_goes_on_from_there(fetch, server, archive):
    server.behaviours["/file"] = lambda handler, _: handler.serve(pause=0.15)
    code = (
        "import sys; from vtclip.data.fetch import Expected; "
        "from vtclip.data.fetch import fetch_archive; "
        f"fetch_archive([sys.argv[1]], {str(archive)!r}, {str(archive) + '.json'!r}, Expected())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.address("/file")],
                               stderr=subprocess.DEVNULL)  # fmt: skip
    part = part_of(archive, server.address("/file"))
    deadline = time.monotonic() + 30
    while not (server.sent and server.sent[-1] >= 500_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert nothing_is_in_place(archive)
    have = part.stat().st_size
    server.behaviours.clear()
    fetch("/file")
    assert archive.read_bytes() == CONTENT
    assert server.requests[-1][2] == (f"bytes={have}-" if have else None)


def test_a_mirror_folder_is_copied_from(fetch, archive, tmp_path):
    (tmp_path / "mirror" / "dtd").mkdir(parents=True)
    (tmp_path / "mirror" / "dtd" / "archive.zip").write_bytes(CONTENT)
    fetch(*mirror_addresses(str(tmp_path / "mirror"), "dtd", "archive.zip", []))
    assert archive.read_bytes() == CONTENT


def test_a_proxy_from_the_environment_is_used(fetch, server, archive, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.address(""))
    monkeypatch.setenv("NO_PROXY", "")
    server.behaviours["http://far.invalid/file"] = Handler.serve
    fetch("http://far.invalid/file")
    assert archive.read_bytes() == CONTENT
    assert server.requests[0][1] == "http://far.invalid/file"


def test_google_drive_files_come_through_gdown(fetch, archive, monkeypatch):
    def download(*, id, output, quiet):
        assert id == "abc/"
        with open(output, "wb") as file:  # noqa: PTH123
            file.write(CONTENT)

    monkeypatch.setattr(gdown, "download", download)
    fetch("gdrive:abc/")
    assert archive.read_bytes() == CONTENT
