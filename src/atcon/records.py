"""What a run writes: versioned JSON, CSV and JSON lines; a file is written whole or not at all."""

import csv
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TextIO

from atcon.errors import InputError
from atcon.plain_text import as_text, as_written

FORMAT = 1
_FOREIGN = "backslashreplace"
"""A file may be called by bytes that are no UTF-8; JSON reads the escape back to the same name."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it on success and vanishes on failure.

    After the block, the file survives a power cut.

    Raises:
        OSError: It cannot be written; names `path`, which is as it was before.
    """
    with _naming(path):
        _make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of writing name the file: that of a full disk names none, others the part."""
    try:
        yield
    except OSError as error:
        named = error.filename is not None
        if named and not Path(str(error.filename)).name.startswith(f".{path.name}."):
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error


def _make_folder(folder: Path) -> None:
    """Create a folder, and those above it, so that they survive a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Let the names in a folder survive a power cut, where the system promises that of folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def check_new(path: Path, option: str = "--out") -> None:
    """Refuse a path where something lies already.

    Raises:
        InputError: It exists; the message names the option that takes another.
    """
    if path.exists():
        raise InputError(f"{path} exists already: choose another {option}")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `path` on success and vanishes on failure."""
    _make_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as place:
        part = Path(place) / path.name
        part.mkdir()
        yield part
        part.rename(path)
        _sync(path.parent)


def is_leftover(path: Path) -> bool:
    """Whether a file is the part of a write that never came to its end."""
    return path.name.startswith(".") and path.suffix == ".part"


def sweep(folder: Path) -> None:
    """Remove what interrupted or killed writes left below a folder that nobody else writes to."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def sweep_parts(path: Path) -> None:
    """Remove what interrupted or killed writes of a file left that nobody else writes."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; what is not UTF-8 in a name is escaped."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors=_FOREIGN)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record atomically, with the format's version first; NaN is refused."""
    record = {"format": FORMAT, **content}
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: The file is missing, is not JSON, or has a format this version does not know.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such record; is this an atcon run folder?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON record ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise InputError(f"{path}: record format {found!r}, but this atcon reads format {FORMAT}")
    return record


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table atomically, header first; no text in it begins a formula of a spreadsheet."""
    with whole_file(path) as part, _opened(part) as handle:
        csv.writer(handle).writerows(map(_cells, (columns, *rows)))


def _opened(path: Path) -> TextIO:
    return path.open("w", newline="", encoding="utf-8", errors=_FOREIGN)


def _cells(row: Sequence[Any]) -> list[Any]:
    return [as_text(cell) if isinstance(cell, str) else cell for cell in row]


def check_replaceable(path: Path, columns: Sequence[str], command: str) -> None:
    """Hold that nothing is at `path`, or an older table of these columns, which `command` wrote.

    Raises:
        InputError: Something else lies there.
    """
    if not path.exists():
        return
    head = (",".join(columns) + "\r\n").encode()
    if not path.is_file() or not path.read_bytes().startswith(head):
        raise InputError(f"{path} exists and is not a table of {command}: choose another --csv")


def read_table(path: Path) -> list[list[str]]:
    """Read what `write_csv` was given, all cells as text; the first row is the header."""
    with path.open(newline="", encoding="utf-8") as handle:
        return [list(map(as_written, row)) for row in csv.reader(handle)]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the same as one mapping per row; of two columns of one name the last one is in it."""
    header, *rows = read_table(path) or [[]]
    return [dict(zip(header, row, strict=False)) for row in rows if row]


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to disk."""
    line, new = _line(content), not path.exists()
    with _naming(path):
        _make_folder(path.parent)
        with path.open("a", encoding="utf-8") as handle:
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        if new:
            _sync(path.parent)


def write_lines(path: Path, contents: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically."""
    write_text(path, "".join(map(_line, contents)))


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(dict(content), allow_nan=False) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not JSON") from None
    return records
