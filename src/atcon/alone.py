"""One process after the other: two that write one file, or one folder, would spoil it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

_TRIES, _PAUSE = 5, 0.1
"""Whoever asks whether a lock is taken holds it for an instant; whoever works, for long."""


class TakenError(Exception):
    """Another process holds the lock."""


@contextmanager
def alone(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file or a folder for the length of the block.

    The lock is one of the operating system: it ends with its process, however that ends.

    Args:
        path: The file, whose lock is `.NAME.lock` beside it.
        waits: Is called once if another process holds the lock; what it raises ends the waiting.
    """
    lock = lock_of(path)
    while True:
        with lock.open("ab") as handle:
            _acquire(handle, waits)
            if not _is(handle, lock):
                continue  # the process before removed it: it keeps nobody out
            try:
                yield
            finally:
                with suppress(OSError):  # what ended the block says more, and the lock ends anyway
                    lock.unlink(missing_ok=True)
            return


@contextmanager
def alone_now(path: Path) -> Iterator[None]:
    """Hold the lock as `alone` does, without waiting for another process.

    Raises:
        TakenError: Another one holds it.
    """
    with ExitStack() as held:
        for left in reversed(range(_TRIES)):
            try:
                held.enter_context(alone(path, _refuse))
                break
            except TakenError:
                if not left:
                    raise
                time.sleep(_PAUSE)
        yield


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock of a file or a folder now."""
    try:
        with lock_of(path).open("rb") as handle:
            _acquire(handle, _refuse)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except TakenError:
        return True
    return False


def lock_of(path: Path) -> Path:
    """Give the file that bears the lock of a file or a folder; it may outlast a killed process."""
    return path.with_name(f".{path.name}.lock")


def _refuse() -> None:
    raise TakenError


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
