"""The engine of local processes: a new one for every cell, so that none can spoil another."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from atcon.experiments.children import end_with, how_ended, surrounded
from atcon.experiments.engines.handing_out import hand_out, lost
from atcon.experiments.engines.work import Ended, Options, Outcome, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress

WORKERS = 2
_LISTED = "CUDA_VISIBLE_DEVICES"
_SPAWN = get_context("spawn")


def run_in_processes(
    work: Work, cells: Sequence[Cell], options: Options, progress: Progress
) -> Ended:
    """Compute several cells at once, each in a process of its own.

    A process that is killed costs its cell the rounds since the last save, and no other cell
    anything. GPUs are dealt out, one to a worker, unless the configuration names one, or several
    of them train a cell together.
    """
    count = options.workers or WORKERS
    threads = options.threads or max(1, (os.cpu_count() or 1) // count)
    configs = [work.config(cell) for cell in cells]
    deals = all(one.device in ("auto", "cuda") and one.devices == 1 for one in configs)
    gpus = _gpus() if deals else []
    workers = _Processes(work, count, threads, gpus, progress)
    return hand_out(workers, work, cells, options.retries, progress)


def _gpus() -> list[str]:
    """Give the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch  # noqa: PLC0415

    listed = os.environ.get(_LISTED)
    count = torch.cuda.device_count()
    return listed.split(",")[:count] if listed and count else [str(i) for i in range(count)]


@dataclass
class _Busy:
    """A process with its cell."""

    cell: Cell
    process: SpawnProcess
    ours: Connection
    outcome: Outcome | None = None


class _Processes:
    """Workers that are processes, by the number of their place."""

    def __init__(
        self, work: Work, count: int, threads: int, gpus: Sequence[str], progress: Progress
    ) -> None:
        self.work, self.threads, self.gpus, self.progress = work, threads, gpus, progress
        self.places: dict[int, _Busy | None] = dict.fromkeys(range(count))

    def is_free(self) -> bool:
        """Whether a place is empty."""
        return None in self.places.values()

    def start(self, cell: Cell) -> None:
        """Start a process in the first empty place."""
        place = next(place for place, busy in self.places.items() if busy is None)
        ours, theirs = _SPAWN.Pipe()
        surroundings = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            surroundings[_LISTED] = self.gpus[place % len(self.gpus)]
        process = _SPAWN.Process(target=_serve, args=(self.work, cell, theirs))
        with surrounded(surroundings):
            process.start()
        theirs.close()
        self.places[place] = _Busy(cell, process, ours)

    def wait(self) -> list[tuple[Cell, Outcome]]:
        """Pass on what the processes say, until one of them ends."""
        places = {place: busy for place, busy in self.places.items() if busy is not None}
        ready = wait([busy.ours for busy in places.values()])
        ended = []
        for place, busy in places.items():
            if busy.ours in ready and not self._listen(busy):
                busy.process.join()
                busy.ours.close()
                ended.append((busy.cell, busy.outcome or _lost(busy.process)))
                busy.process.close()
                self.places[place] = None
        return ended

    def stop(self) -> None:
        """End the processes; what they saved is continued by the next run."""
        for busy in self.places.values():
            if busy is not None:
                busy.process.terminate()
                busy.process.join()
                busy.process.close()
                busy.ours.close()

    def _listen(self, busy: _Busy) -> bool:
        """Take one message; False: there will be no more."""
        try:
            message = busy.ours.recv()
        except (EOFError, ConnectionError):
            return False
        if isinstance(message, Outcome):
            busy.outcome = message
        else:
            self.progress.note(f"[{busy.cell.name}] {message}")
        return True


def _lost(process: SpawnProcess) -> Outcome:
    return lost(f"its process {how_ended(process.exitcode or 0)}")


def _serve(work: Work, cell: Cell, theirs: Connection) -> None:
    """Compute one cell in this process, which ends when its parent does."""
    from atcon.experiments.engines.cell import compute  # noqa: PLC0415  torch, with its threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=end_with, args=(theirs,), daemon=True).start()
    outcome = compute(work, cell, _Telling(theirs))
    theirs.send(outcome)


class _Telling(Progress):
    """Tells the parent what is worth a line."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def note(self, text: str) -> None:
        """Send a line."""
        self.parent.send(text)

    milestone = note
