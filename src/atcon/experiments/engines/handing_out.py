"""Cells handed out to workers: each to one at a time, and again when its worker is lost."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from atcon.experiments.engines.failures import failure_of, note_failure
from atcon.experiments.engines.work import Ended, Outcome, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress

RETRIES = 1


class Workers(Protocol):
    """Several workers, each of which computes one cell at a time."""

    def is_free(self) -> bool:
        """Whether one has nothing to do."""

    def start(self, cell: Cell) -> None:
        """Give a cell to a free one."""

    def wait(self) -> list[tuple[Cell, Outcome]]:
        """Wait until a cell ends, however it does; may give none."""

    def stop(self) -> None:
        """End all that still work."""


def lost(reason: str) -> Outcome:
    """Give the outcome of a cell whose worker was lost."""
    return Outcome("failed", reason, again=True)


def hand_out(
    workers: Workers, work: Work, cells: Sequence[Cell], retries: int | None, progress: Progress
) -> Ended:
    """Hand out cells until each has ended; one that failed is tried again if that may help."""
    waiting, busy = deque(cells), 0
    left = dict.fromkeys(cells, RETRIES if retries is None else retries)
    ended: dict[Cell, Outcome] = {}
    try:
        while waiting or busy:
            while waiting and workers.is_free():
                workers.start(waiting.popleft())
                busy += 1
            for cell, outcome in workers.wait():
                busy -= 1
                if outcome.state == "failed" and outcome.again and left[cell]:
                    left[cell] -= 1
                    progress.note(f"{cell.name} failed, and is tried again: {outcome.reason}")
                    waiting.append(cell)
                    continue
                ended[cell] = outcome
                _say(work, cell, outcome, f"{len(ended)} of {len(cells)}", progress)
    finally:
        workers.stop()
    failed = {c.name: o.reason for c, o in ended.items() if o.state == "failed"}
    return Ended(failed, tuple(c.name for c, o in ended.items() if o.state == "elsewhere"))


def _say(work: Work, cell: Cell, outcome: Outcome, count: str, progress: Progress) -> None:
    if outcome.state == "failed":
        if failure_of(work, cell) != outcome.reason:  # else the worker could still record it
            note_failure(work, cell, outcome.reason)
        progress.note(f"{cell.name} failed ({count}): {outcome.reason}")
    elif outcome.state == "elsewhere":
        progress.note(f"{cell.name}: another process computes it ({count})")
    else:
        progress.note(f"{cell.name}: finished ({count})")
