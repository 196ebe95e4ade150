"""Bring a published file: what is cut short is continued, and what is wrong gets no name."""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from atcon.alone import alone
from atcon.downloads.download_line import HTTPS, LOST, Line, is_final, reason_of, span_of
from atcon.downloads.source import SILENT, Source, Watcher, mismatch
from atcon.errors import InputError

MOST = 8 * 2**30
"""Bytes of a file whose size was not published, at most."""

_BLOCK = 1 << 18
_MB = 10**6


def fetch(source: Source, path: Path, watch: Watcher = SILENT, line: Line = HTTPS) -> Path:
    """Give the path of a published file, after downloading it where it is not there.

    What arrives is written to `NAME.part`, beside which `NAME.part.json` says what it is a part of.
    It gets its name when length and SHA-256 are right, and nothing is ever overwritten. A download
    that was cut short is continued by the next call, if the server still has the same file. While
    one process downloads, others wait for it.

    Args:
        source: The file.
        path: Where it is, or will be.
        watch: Is told how it goes.
        line: How the server is reached.

    Raises:
        InputError: It cannot be downloaded, or what lies at `path` is another or a broken file.
    """
    if not path.exists():
        line.check(source.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        said = f"{path}: another process is downloading it; waiting for that"
        with alone(path, lambda: watch.note(said)):
            if not path.exists():
                _Download(source, path, watch, line).run()
                return path
    if wrong := mismatch(path, source):
        raise InputError(
            f"{path}: this is not {source.what} as published ({wrong}): a broken or another file. "
            "Move it away, and the same command downloads it again"
        )
    return path


@dataclass(frozen=True, slots=True)
class _Known:
    """What a part file is a part of: the address, the server's name of the version, the length."""

    url: str
    validator: str | None
    total: int | None


class _Download:
    """One file on its way."""

    def __init__(self, source: Source, path: Path, watch: Watcher, line: Line) -> None:
        self.source = source
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.beside = path.with_name(f"{path.name}.part.json")
        self.watch = watch
        self.line = line
        self.opener = line.opener()
        self.continued = False

    def run(self) -> None:
        """Bring the file, check it, and give it its name."""
        self.watch.note(f"downloading {self.source.what} from {self.source.url} to {self.path}")
        self._complete()
        wrong = mismatch(self.part, self.source)
        if wrong and self.continued:
            self.watch.note(f"{self.source.what}: put together it is wrong ({wrong}); once more")
            self._discard()
            self._complete()
            wrong = mismatch(self.part, self.source)
        if wrong:
            self._discard()
            raise self._failed(f"what arrived is not the published file: {wrong}; it was discarded")
        with self.part.open("rb") as written:
            os.fsync(written.fileno())
        self._name()
        self._discard()

    def _complete(self) -> None:
        """Bring the part file to its whole length, over as many connections as that takes."""
        fruitless, furthest = 0, self._size()
        while True:
            try:
                if self._transfer():
                    return
                reason = "the connection ended early"
            except LOST as lost:
                reason = reason_of(lost)
                if isinstance(lost, HTTPError):
                    self._refused(lost)
                if is_final(lost):
                    raise self._failed(reason) from None
            finally:
                self.watch.end()
            fruitless = 0 if self._size() > furthest else fruitless + 1
            furthest = max(furthest, self._size())
            if fruitless >= self.line.attempts:
                raise self._failed(reason)
            pause = self.line.pause * 2 ** max(fruitless - 1, 0)
            self.watch.note(f"{self.source.what}: {reason}; again in {pause:g} s")
            time.sleep(pause)

    def _refused(self, answer: HTTPError) -> None:
        answer.close()
        if answer.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._discard()  # the file is shorter now: the part is of another one

    def _transfer(self) -> bool:
        """Take what one connection gives; whether the file is whole then."""
        known, have = self._state()
        self.continued = have > 0
        if have and have == known.total:
            return True
        headers = {"User-Agent": "atcon", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": str(known.validator)}
        request = Request(self.source.url, headers=headers)  # noqa: S310  the scheme was checked
        with self.opener.open(request, timeout=self.line.timeout) as response:
            span = span_of(response, have)
            total = span.total or self.source.size
            self._check_length(span.total, span.start)
            if span.start == 0:
                self._discard()
                self.continued = False
                known = _Known(self.source.url, span.validator, total)
                self.beside.write_text(json.dumps(asdict(known)), encoding="utf-8")
            size = self._take(response, span.start, total)
        return total is None or size == total

    def _take(self, response: Any, start: int, total: int | None) -> int:
        """Append what arrives, but no more than there should be; give the size then."""
        most, size = total or MOST, start
        self.watch.begin("download", -(-most // _MB))
        self.watch.advance({}, start // _MB)
        with self.part.open("ab") as written:
            while block := response.read(_BLOCK):
                if size + len(block) > most:
                    written.truncate(0)
                    raise self._failed(f"the server sends more than {most:,} bytes")
                written.write(block)
                self.watch.advance({}, (size + len(block)) // _MB - size // _MB)
                size += len(block)
        return size

    def _check_length(self, total: int | None, start: int) -> None:
        """Refuse a file of another length than published, or for which there is no room."""
        wanted = self.source.size
        if total is not None and wanted is not None and total != wanted:
            raise self._failed(f"the server has {total:,} bytes, but {wanted:,} were published")
        if total is not None and wanted is None and total > MOST:
            raise self._failed(f"the server has {total:,} bytes, more than the limit of {MOST:,}")
        missing, free = (total or wanted or 0) - start, shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise self._failed(f"{missing:,} bytes are missing, but {free:,} are free there")

    def _state(self) -> tuple[_Known, int]:
        """Give what the part file is a part of, and its size: 0 if it cannot be continued."""
        fresh = _Known(self.source.url, None, self.source.size)
        try:
            known = _Known(**json.loads(self.beside.read_text(encoding="utf-8")))
            size = self._size()
            whole = size == known.total
            fits = known.url == self.source.url and size <= (known.total or MOST)
        except (OSError, ValueError, TypeError):  # none, or not ours
            return fresh, 0
        return (known, size) if fits and (whole or known.validator) else (fresh, 0)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.beside.unlink(missing_ok=True)

    def _name(self) -> None:
        """Give the finished file its name, unless something else got it meanwhile."""
        try:
            os.link(self.part, self.path)
        except FileExistsError:
            raise InputError(f"{self.path} exists already; it was left as it is") from None
        except OSError:  # a file system without links
            self.part.rename(self.path)

    def _failed(self, reason: str) -> InputError:
        kept = " What has arrived is kept, and the same command continues." * bool(self._size())
        return InputError(
            f"{self.source.what} could not be downloaded to {self.path} ({reason}).{kept} Behind a "
            f"proxy, set HTTPS_PROXY. Or fetch {self.source.url} by other means and put it there"
        )
