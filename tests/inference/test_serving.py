import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from unittest.mock import Mock

import pytest

from tests.cli.conftest import add_calibration
from vtclip.inference.classifier import Prediction, load_classifier
from vtclip.inference.serving import LARGEST, Answering, make_server
from vtclip.settings import ConfigError


@contextmanager
def serving(answer):
    with make_server(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port, method="POST", path="/classify", body=b"x", **headers):
    """Status, headers and body of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    given = {"Content-Type": "image/png"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def port():
    """The port of a server whose answer is the length of what it was sent."""
    with serving(lambda content: {"length": len(content)}) as port:
        yield port


def test_the_page_loads_nothing_from_any_other_place(port):
    status, headers, page = ask(port, "GET", "/", None)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"http" not in page.replace(b"http-equiv", b"")


def test_an_image_is_answered_in_json(port):
    status, _, body = ask(port, body=b"12345")
    assert (status, json.loads(body)) == (200, {"length": 5})


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (404, {"path": "/etc/passwd"}),
        (404, {"method": "GET", "path": "/../run.json"}),
        (415, {"Content_Type": "text/plain"}),  # what a form of another site may send
        (411, {"Content_Length": "-1"}),
        (411, {"Content_Length": "x"}),
        (413, {"Content_Length": str(LARGEST + 1)}),
        (403, {"Host": "example.org"}),
        (403, {"Host": "example.org:8000", "method": "GET", "path": "/"}),
    ],
)
def test_all_but_images_of_bounded_size_for_this_machine_is_refused(port, status, arguments):
    found, headers, body = ask(port, **arguments)
    assert (found, list(json.loads(body))) == (status, ["error"])
    assert "Access-Control-Allow-Origin" not in headers


def test_an_address_that_cannot_be_served_at_is_refused_in_one_error(port):
    for taken in (port, 80000):
        with pytest.raises(ConfigError, match=f"127.0.0.1, {taken}: .*\n  expected: .* is free"):
            make_server(None, "127.0.0.1", taken)


def test_no_two_images_are_classified_at_once():
    """A head of CLIP-LoRA changes the towers' weights while it computes."""
    classifier, computing, most = Mock(head=None), [], []

    def predict(files, rules):
        computing.append(files)
        most.append(len(computing))
        time.sleep(0.05)
        computing.pop()
        return [Prediction(str(files[0]), ["cat"], None, "odd")]

    classifier.predict = predict
    answer = Answering(classifier, None)
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(answer, [b"x"] * 3)] == [{"error": "odd"}] * 3
    assert most == [1, 1, 1]


def test_two_requests_are_read_at_once():
    both = threading.Barrier(2, timeout=20)
    found = []
    with serving(lambda _: {"place": both.wait()}) as port:
        threads = [threading.Thread(target=lambda: found.append(ask(port)[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [200, 200]


def test_an_answer_has_classes_set_refusal_and_attention_and_a_file_that_is_no_image_none(
    here,
):
    run = "vt_clip/1shot-seed1"
    add_calibration(here / "results/mine/heads/glyph-clip-mine/pets" / run)
    classifier = load_classifier(f"mine/pets/{run}")
    with serving(Answering(classifier, classifier.rules(0.9, 0.05))) as port:
        status, _, body = ask(port, body=(here / "0.png").read_bytes())
        found = json.loads(body)
        assert (status, set(found)) == (200, {"top", "set", "unknown", "attention"})
        status, _, body = ask(port, body=b"no image")
        assert (status, list(json.loads(body))) == (422, ["error"])
