"""A server of one file, which fails as servers and lines do."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """What is served, how the next answers go wrong, and what was asked.

    Attributes:
        content: The file.
        etag: What the server calls its version; None: nothing.
        date: Its `Last-Modified`; None: nothing.
        cuts: After how many bytes of the file each of the next answers breaks off.
        answers: Status and headers that the next requests get instead of the file.
        ranges: Whether a part can be asked for.
        length: What `Content-Length` and `Content-Range` say; None: the truth.
        shifted: Bytes by which a part begins too late.
        encoding: `Content-Encoding`, if one is claimed.
        asked: Path, `Range` and `If-Range` of every request.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"1"'
        self.date: str | None = None
        self.cuts: list[int] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.ranges = True
        self.length: int | None = None
        self.shifted = 0
        self.encoding: str | None = None
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.port = 0
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/file.bin"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    served: FileServer  # set in a class of its own for every server

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.served.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        self.served.hold.wait(10)
        if self.served.answers:
            status, headers = self.served.answers.pop(0)
            self.send_response(status)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            return
        self._send(self._start())

    def _start(self) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in {self.served.etag, self.served.date} - {None}
        return int(wanted[1]) if wanted and self.served.ranges and same else 0

    def _send(self, start: int) -> None:
        total = len(self.served.content) if self.served.length is None else self.served.length
        if start and start >= total:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first = start + self.served.shifted
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if total >= 0:
            self.send_header("Content-Length", str(total - start))
        named = {
            "ETag": self.served.etag,
            "Last-Modified": self.served.date,
            "Content-Encoding": self.served.encoding,
        }
        for key, value in named.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        end = self.served.cuts.pop(0) if self.served.cuts else len(self.served.content)
        self.wfile.write(self.served.content[start:end])
        self.close_connection = True


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve a file on this machine for the length of the block."""
    served = FileServer(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
