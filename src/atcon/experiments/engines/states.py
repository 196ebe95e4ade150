"""The state of every cell, from what lies on the disk."""

from dataclasses import dataclass
from typing import Literal

from atcon.alone import is_taken
from atcon.experiments.engines.failures import failure_of
from atcon.experiments.engines.work import Work
from atcon.experiments.grid import Cell


@dataclass(frozen=True)
class State:
    """How a cell stands: "running" is said of processes of this machine, or of its file system."""

    name: Literal["finished", "running", "failed", "missing"]
    reason: str = ""


def states_of(work: Work) -> dict[Cell, State]:
    """Give the state of every cell.

    Raises:
        InputError: A record is damaged, or of another configuration.
    """
    missing = set(work.missing(work.experiment.cells))
    return {
        cell: _state(work, cell) if cell in missing else State("finished")
        for cell in work.experiment.cells
    }


def failures_of(work: Work) -> dict[Cell, str]:
    """Give the reason for every cell that failed; records of finished cells are not read.

    Raises:
        InputError: The record of a failure is damaged.
    """
    left = (cell for cell in work.experiment.cells if not work.record(cell).exists())
    states = {cell: _state(work, cell) for cell in left}
    return {cell: state.reason for cell, state in states.items() if state.name == "failed"}


def _state(work: Work, cell: Cell) -> State:
    if is_taken(work.folder(cell).root):
        return State("running")
    reason = failure_of(work, cell)
    return State("missing") if reason is None else State("failed", reason)
