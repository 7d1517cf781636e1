"""A web server that misbehaves on demand."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vtclip.config.dataset import Dataset
from vtclip.data.fetch import Expected, marker_of, write_marker
from vtclip.data.inventory import archive_path

# A certificate for localhost that no library trusts, with its key.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes, the same at no two offsets a page apart


class Hostile(ThreadingHTTPServer):
    """Serves CONTENT at every path, in the way that the path's behaviour says."""

    daemon_threads = True
    scheme, host = "http", "127.0.0.1"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: dict[str, Callable[[Handler, int], None]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.sent: list[int] = []

    def address(self, path: str = "/file") -> str:
        return f"{self.scheme}://{self.host}:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.server.requests.append(("GET", self.path, requested))
        number = sum(path == self.path for _, path, _ in self.server.requests)
        self.server.behaviours.get(self.path, Handler.serve)(self, number)

    def do_HEAD(self) -> None:
        self.server.requests.append(("HEAD", self.path, None))
        self.send_error(403)

    def serve(
        self, number: int = 1, *, content: bytes = CONTENT, cut: int | None = None,
        ranges: bool = True, pause: float = 0, kind: str = "application/zip",
    ) -> None:  # fmt: skip
        """Serve `content`; close after `cut` of its bytes; wait `pause` s before every 100 kB."""
        requested = self.headers.get("Range") if ranges else None
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        body = content[start:]
        self.send_response(206 if requested else 200)
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        body = body if cut is None else body[: max(0, cut - start)]
        self.server.sent.append(0)
        for offset in range(0, len(body), 100_000):
            time.sleep(pause)
            try:
                self.wfile.write(body[offset : offset + 100_000])
            except OSError:
                return
            self.server.sent[-1] += len(body[offset : offset + 100_000])

    def log_message(self, *arguments: object) -> None:
        pass


def mark_unavailable(name: str, dataset: Dataset) -> Path:
    """Leave the marker of a failed download of a dataset's first archive."""
    first = dataset.archives[0]
    archive = archive_path(name, first.file)
    write_marker(archive, first.urls, Expected(**first.expected), "gone")
    return marker_of(archive)


@pytest.fixture
def server() -> Iterator[Hostile]:
    yield from serve(Hostile())


@pytest.fixture
def https_server() -> Iterator[Hostile]:
    hostile = Hostile()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    hostile.socket = context.wrap_socket(hostile.socket, server_side=True)
    hostile.scheme, hostile.host = "https", "localhost"
    yield from serve(hostile)


def serve(hostile: Hostile) -> Iterator[Hostile]:
    threading.Thread(target=hostile.serve_forever, args=(0.01,), daemon=True).start()
    yield hostile
    hostile.shutdown()
    hostile.server_close()
