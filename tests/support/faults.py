"""Faults of the disk and deaths of processes, put where a test wants them."""

import errno
import io
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

CALLS = ("chmod", "fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink")
"""What `records` and `alone` ask of the system by way of `os`; a file is written by `io.open`."""
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["atcon.experiments.engines.table"])

Told = Callable[[str, Path], None]


class DeadError(BaseException):
    """This process counts as killed: it does nothing more to the disk, not even on its way out."""


@contextmanager
def watched(folder: Path, before: Told) -> Iterator[None]:
    """Tell every call that changes something in a folder, and its path, before it is made.

    Nothing waits for the disk: what a killed process wrote outlives it without.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, _telling(name, getattr(os, name), folder, before))
        patch.setattr(io, "open", _telling("write", io.open, folder, before))
        yield


def _telling(name: str, call: Any, folder: Path, before: Told) -> Callable[..., Any]:
    def told(place: Any, *more: Any, **named: Any) -> Any:
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(place)
        reads = name == "write" and not set(str((*more, *named.values()))) & set("wax+")
        if path.is_relative_to(folder) and not reads:
            before(name, path)
        return None if name == "fsync" else call(place, *more, **named)

    return told


def failing(at: int) -> Told:
    """Let the call of this number, from 0 on, fail as on a broken disk, and no other."""
    numbers = iter(range(10**6))

    def before(_name: str, _path: Path) -> None:
        if next(numbers) == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return before


def dying(at: int) -> Told:
    """Die before the call of this number."""
    numbers = iter(range(10**6))

    def before(_name: str, _path: Path) -> None:
        if next(numbers) >= at:
            raise DeadError

    return before


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, whoever writes it: Python, C++ or Rust."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def killed_after(seconds: float, work: Callable[..., None], *given: object) -> bool:
    """Work in a new process that gets SIGKILL after so long; False: it had ended before.

    It may also die by itself, by SIGKILL or at the end of its `full_disk`.
    """
    process = _FORKS.Process(target=work, args=given)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL, -signal.SIGXFSZ}, process.exitcode
    return process.exitcode != 0


def unfinished_writes(folder: Path) -> list[str]:
    """Name the temporary files below a folder, and the locks."""
    found = [*folder.rglob(".*.part"), *folder.rglob(".*.lock")]
    return [path.relative_to(folder).as_posix() for path in found]
