"""One process after the other: two that write one file, or one folder, would spoil it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def alone(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file or a folder for the length of the block.

    The lock is one of the operating system: it ends with its process, however that ends.

    Args:
        path: The file, whose lock is `.NAME.lock` beside it.
        waits: Is called once if another process holds the lock; what it raises ends the waiting.
    """
    lock = _lock_of(path)
    while True:
        with lock.open("ab") as handle:
            _acquire(handle, waits)
            if not _is(handle, lock):
                continue  # the process before removed it: it keeps nobody out
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock of a file or a folder now."""
    try:
        with _lock_of(path).open("rb") as handle:
            _acquire(handle, _refuse)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _refuse() -> None:
    raise BlockingIOError


def _acquire(handle: IO[bytes], waits: Callable[[], None]) -> None:
    try:
        import fcntl  # noqa: PLC0415
    except ModuleNotFoundError:  # Windows, where nothing keeps two processes apart
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waits()
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is(handle: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
