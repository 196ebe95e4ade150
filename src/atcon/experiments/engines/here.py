"""The engine of this process: one cell after the other."""

from collections.abc import Sequence

from atcon.experiments.engines.cell import compute
from atcon.experiments.engines.work import Ended, Options, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress


def run_here(work: Work, cells: Sequence[Cell], options: Options, progress: Progress) -> Ended:
    """Compute the cells in this process; one that fails is passed over."""
    del options  # none concerns this process
    failed, elsewhere = {}, []
    for cell in cells:
        outcome = compute(work, cell, progress)
        if outcome.state == "failed":
            failed[cell.name] = outcome.reason
            progress.note(f"{cell.name} failed: {outcome.reason}")
        elif outcome.state == "elsewhere":
            elsewhere.append(cell.name)
            progress.note(f"{cell.name}: another process computes it")
    return Ended(failed, tuple(elsewhere))
