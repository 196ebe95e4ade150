"""Several processes that do one thing together: started, listened to, and ended as one."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atcon.errors import AtconError, InputError
from atcon.experiments.children import end_with, how_ended, surrounded
from atcon.experiments.progress import Progress
from atcon.training import Processes, together

Work = Callable[[Processes, Progress], Any]
_SPAWN = get_context("spawn")
_OTHERS = 2.0
"""Seconds in which the others may still say what went wrong, before all are ended."""
_TELLS = ("note", "begin", "advance", "milestone", "end")


def launch(work: Work, count: int, progress: Progress, *, on_gpu: bool) -> Any:
    """Let new processes of this machine do the same work; give what the first one returns.

    They end with this process, and when one of them ends with an error or is killed.

    Args:
        work: Is called in each with its place and its progress; can be pickled, as its result.
        count: How many.
        progress: Is told what the first one tells.
        on_gpu: Whether each has a GPU of its own.

    Raises:
        AtconError: One of them failed (`InputError`, where it raised one) or was lost.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with TemporaryDirectory(prefix="atcon-") as folder, surrounded({"OMP_NUM_THREADS": threads}):
        meeting = f"file://{Path(folder) / 'meeting'}"
        started: dict[Connection, SpawnProcess] = {}
        try:
            for rank in range(count):
                ours, theirs = _SPAWN.Pipe()
                process = _SPAWN.Process(
                    target=_serve,
                    args=(work, rank, count, meeting, on_gpu, theirs),
                    name=f"process {rank} of {count}",
                )
                process.start()
                theirs.close()
                started[ours] = process
            return _listen(started, progress)
        finally:
            for ours, process in started.items():
                process.terminate()
                process.join()
                ours.close()


def _listen(started: dict[Connection, SpawnProcess], progress: Progress) -> Any:
    """Pass on what the first process tells until all have ended; give its result."""
    waiting, result, left = dict(started), None, None
    failures: list[tuple[int, AtconError]] = []
    while waiting and (left is None or left > time.monotonic()):
        ready = wait(list(waiting), None if left is None else _OTHERS)
        for ours in [one for one in waiting if one in ready]:
            kind, content = _message(ours)
            if kind in _TELLS:
                getattr(progress, kind)(*content)
                continue
            process = waiting.pop(ours)
            if kind == "failed":
                failures.append(_failure(process.name, *content))
            elif kind == "lost":
                failures.append(_lost(process))
            elif content is not None:
                result = content
        if failures and left is None:
            left = time.monotonic() + _OTHERS
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]
    return result


def _message(ours: Connection) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = ours.recv()
    except (EOFError, ConnectionError):
        return "lost", None
    return message


def _failure(name: str, ours: bool, wrong_input: bool, text: str, trace: str) -> tuple[int, Any]:
    """Give an error with its place: what we foresaw explains more than what follows from it."""
    if wrong_input:
        return 0, InputError(text)
    error = AtconError(f"{name}: {text}; what was saved can be continued")
    if not ours:
        error.add_note(trace)
    return 0 if ours else 2, error


def _lost(process: SpawnProcess) -> tuple[int, AtconError]:
    process.join()
    how = how_ended(process.exitcode or 0)
    text = f"{process.name} {how}, so all were ended; what was saved can be continued"
    return 1, AtconError(text)


def _serve(
    work: Work, rank: int, count: int, meeting: str, on_gpu: bool, theirs: Connection
) -> None:
    """Do the work in this process, which ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=end_with, args=(theirs,), daemon=True).start()
    try:
        with together(rank, count, meeting, on_gpu=on_gpu) as processes:
            result = work(processes, _Telling(theirs) if processes.first else Progress())
        theirs.send(("done", result if rank == 0 else None))
    except Exception as error:
        ours = isinstance(error, AtconError)
        text = str(error) if ours else f"{type(error).__name__}: {error}"
        said = (ours, isinstance(error, InputError), text, traceback.format_exc())
        theirs.send(("failed", said))


class _Telling(Progress):
    """Tells the parent everything."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def note(self, text: str) -> None:
        """Send a line."""
        self.parent.send(("note", (text,)))

    def begin(self, title: str, total: int, unit: str = "") -> None:
        """Send the start of a piece of work."""
        self.parent.send(("begin", (title, total, unit)))

    def advance(self, values: Any, steps: int = 1) -> None:
        """Send its steps."""
        self.parent.send(("advance", (dict(values), steps)))

    def milestone(self, text: str) -> None:
        """Send the result of an epoch."""
        self.parent.send(("milestone", (text,)))

    def end(self) -> None:
        """Send its end."""
        self.parent.send(("end", ()))
