"""A page in the browser that classifies images which are dropped on it."""

import base64
import json
import logging
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from vtclip.inference.attention import draw_attention
from vtclip.inference.classifier import Classifier
from vtclip.nn.visual_guided import VisualGuidedHead
from vtclip.settings import refusal
from vtclip.training.calibration import Rules

PAGE = Path(__file__).with_name("page.html")
LARGEST = 20 * 2**20  # bytes of an image
PATIENCE = 30.0  # seconds that a browser may take to send
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src blob: data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Answer = Callable[[bytes], dict[str, Any]]
logger = logging.getLogger(__name__)


class Answering:
    """Classifies the bytes of an image, one image at a time.

    Some heads change weights of the towers while they compute, and precision is the process's.
    """

    def __init__(self, classifier: Classifier, rules: Rules | None, top: int = 5) -> None:
        self.classifier, self.rules, self.top = classifier, rules, top
        self.alone = Lock()
        self.draws = isinstance(classifier.head, VisualGuidedHead)

    def __call__(self, content: bytes) -> dict[str, Any]:
        """The classes, the set, the refusal and the attention, or under `error` why not."""
        with self.alone, TemporaryDirectory() as folder:
            file = Path(folder, "image")
            file.write_bytes(content)
            (found,) = self.classifier.predict([file], self.rules)
            if found.reason:
                return {"error": found.reason}
            answer: dict[str, Any] = {
                "top": found.top(self.top), "set": found.classes, "unknown": found.is_unknown,
            }  # fmt: skip
            if self.draws:
                draw_attention(self.classifier, found, Path(folder, "attention"))
                drawn = Path(folder, "attention.png").read_bytes()
                answer["attention"] = base64.b64encode(drawn).decode("ascii")
            return answer


class Handler(BaseHTTPRequestHandler):
    """Answers with the page, and for an image with JSON."""

    timeout = PATIENCE
    server_version, sys_version = "vtclip", ""

    def __init__(self, answer: Answer, hosts: tuple[str, ...], *arguments: Any) -> None:
        self.answer, self.hosts = answer, hosts
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send the page."""
        if not self._is_for_us():
            return
        if self.path != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", PAGE.read_bytes())

    def do_POST(self) -> None:
        """Classify the image that is the request's body.

        A page of another site cannot send one: a browser asks first for a body of type image/*.
        """
        if not self._is_for_us():
            return
        given = self.headers.get("Content-Length", "")
        length = int(given) if given.isascii() and given.isdecimal() and len(given) < 12 else -1
        if self.path != "/classify":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not self.headers.get("Content-Type", "").startswith("image/"):
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this is not an image")
        elif length < 1:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length of the image is missing")
        elif length > LARGEST:
            most = f"an image may have {LARGEST >> 20} MB at most"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most)
        else:
            self._answer(length)

    def _answer(self, length: int) -> None:
        try:
            found = self.answer(self.rfile.read(length))
        except TimeoutError:
            raise  # the server closes the connection
        except Exception:
            logger.exception("An image could not be classified.")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "it could not be classified")
            return
        status = HTTPStatus.UNPROCESSABLE_ENTITY if "error" in found else HTTPStatus.OK
        self._send(status, "application/json", json.dumps(found).encode())

    def _is_for_us(self) -> bool:
        """Refuse a request by another name: a foreign site can make its name mean this machine."""
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if self.hosts and name not in self.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "this name is not served here")
            return False
        return True

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # the body is not read
        self._send(status, "application/json", json.dumps({"error": reason}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log to the program's log, and not to its output."""
        logger.info(format, *arguments)


class Server(ThreadingHTTPServer):
    """A thread for each request, of which none keeps the program from ending."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a browser that has gone away, or an error of the program."""
        logger.info("A request ended early.", exc_info=True)


def make_server(answer: Answer, host: str, port: int) -> Server:
    """A server on an address; of the loopback addresses, requests by another name are refused.

    Raises:
        ConfigError: nothing can be served there.
    """
    hosts = LOOPBACK if host in ("127.0.0.1", "localhost", "::1") else ()
    try:
        return Server((host, port), partial(Handler, answer, hosts))
    except (OSError, OverflowError) as error:
        raise refusal(
            "--host, --port", "the page cannot be served there", found=f"{host}, {port}: {error}",
            expected="an address of this machine, and a port that is free (--port 0: any)",
        ) from None  # fmt: skip
