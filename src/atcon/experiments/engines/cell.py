"""One cell: computed or continued by one process at a time, then recorded."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from atcon import records
from atcon.alone import alone
from atcon.errors import InputError
from atcon.experiments.cell_record import cell_record
from atcon.experiments.config import dump_config
from atcon.experiments.engines.failures import forget_failure, note_failure, reason_of
from atcon.experiments.engines.work import Outcome, Work
from atcon.experiments.folder import RunFolder
from atcon.experiments.grid import Cell, fingerprint
from atcon.experiments.progress import Progress
from atcon.experiments.run import run

_TRIES, _PAUSE = 5, 0.1
"""Whoever asks for the status holds the lock for an instant; whoever computes, for long."""


class _TakenError(Exception):
    """Another process computes the cell."""


def compute(work: Work, cell: Cell, progress: Progress) -> Outcome:
    """Compute a cell, or finish one that was cut short, unless another process does so now.

    A cell is a run in `out/NAME/CELL`; its record, `results/NAME/CELL.json`, is small and marks it
    as finished, so that the records alone let another machine go on. The weights are removed after
    it unless they are asked for. Whatever goes wrong is recorded, and ends this cell alone.
    """
    try:
        with _claimed(work.folder(cell)):
            if not work.record(cell).exists():
                progress.note(f"{work.experiment.name}, {cell.name}")
                _compute(work, cell, progress)
            forget_failure(work, cell)
    except _TakenError:
        return Outcome("elsewhere")
    except Exception as error:
        reason = reason_of(error)
        note_failure(work, cell, reason, error)
        return Outcome("failed", reason, again=not isinstance(error, InputError))
    return Outcome("finished")


@contextmanager
def _claimed(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of a cell; the operating system takes it from a process that ends."""
    folder.root.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for left in reversed(range(_TRIES)):
            try:
                held.enter_context(alone(folder.root, _taken))
                break
            except _TakenError:
                if not left:
                    raise
                time.sleep(_PAUSE)
        yield


def _taken() -> None:
    raise _TakenError


def _compute(work: Work, cell: Cell, progress: Progress) -> None:
    config, folder = work.config(cell), work.folder(cell)
    if folder.summary.exists():
        folder.check_configuration(dump_config(config))
    else:
        shared = work.shared if work.share else None
        run(config, folder.root, resume=folder.config.exists(), progress=progress, shared=shared)
    content: dict[str, Any] = {
        "experiment": work.experiment.name,
        "cell": cell.name,
        "configuration": fingerprint(config),
        **cell_record(folder),
    }
    records.write_json(work.record(cell), content)
    if not work.keep_weights:
        shutil.rmtree(folder.root / "checkpoints", ignore_errors=True)
