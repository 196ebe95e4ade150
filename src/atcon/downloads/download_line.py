"""How other machines are reached, and what their answers mean."""

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from atcon.errors import InputError

LOST = (URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
"""What a connection that fails raises."""

_PASSING = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be others in a moment; 416: the part is longer than the file."""


@dataclass(frozen=True, slots=True)
class Line:
    """How other machines are reached.

    Attributes:
        schemes: What an address, and one that it leads to, may begin with.
        timeout: Seconds without a byte after which a connection is lost.
        attempts: Tries in a row that bring nothing new, after which a download is given up.
        pause: Seconds before the second of them; twice as many before each further one.
    """

    schemes: frozenset[str] = frozenset({"https"})
    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0

    def check(self, url: str) -> None:
        """Refuse an address of another scheme.

        Raises:
            InputError: It is one.
        """
        if urlsplit(url).scheme not in self.schemes:
            raise InputError(f"{url}: downloads come from {' or '.join(self.schemes)} only")

    def opener(self) -> OpenerDirector:
        """Give what opens addresses: through the proxies of the environment, if there are any."""
        return build_opener(_Redirects(self))


HTTPS = Line()
PLAIN = Line(schemes=frozenset({"http", "https"}))
"""For files without another address, of which the whole SHA-256 is known."""


class _Redirects(HTTPRedirectHandler):
    """Follows a server to an address that could be given as well, and to no other."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        try:
            self.line.check(newurl)
        except InputError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True, slots=True)
class Span:
    """What an answer brings.

    Attributes:
        start: Its first byte's place in the file.
        total: Bytes of the whole file, if the server says so.
        validator: What the server calls this version of the file, if it does.
    """

    start: int
    total: int | None
    validator: str | None


def span_of(response: Any, have: int) -> Span:
    """Read the head of an answer to a request for what follows the first `have` bytes.

    Raises:
        http.client.HTTPException: It is not what was asked for.
    """
    headers = response.headers
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise http.client.HTTPException(f"the answer is encoded ({encoding}), which was not asked")
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        if span is None or int(span[1]) != have:
            raise http.client.HTTPException("the server continues at another place than asked")
        return Span(have, int(span[2]), _validator(headers))
    length = str(headers.get("Content-Length", ""))
    return Span(0, int(length) if length.isdecimal() else None, _validator(headers))


def _validator(headers: Any) -> str | None:
    """Give the ETag, or the date: a weak ETag cannot say that two bytes come from one version."""
    tag: str | None = headers.get("ETag")
    date: str | None = headers.get("Last-Modified")
    return date if tag is None or tag.startswith("W/") else tag


def reason_of(lost: Exception) -> str:
    """Say why a connection failed."""
    if isinstance(lost, HTTPError):
        return f"the server answers {lost.code} {lost.reason}"
    cause = getattr(lost, "reason", lost)
    return str(cause).strip() or type(cause).__name__


def is_final(lost: Exception) -> bool:
    """Whether another try would fail as well."""
    if isinstance(lost, HTTPError):
        return lost.code not in _PASSING
    cause = getattr(lost, "reason", lost)
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    return isinstance(cause, ssl.SSLCertVerificationError)
