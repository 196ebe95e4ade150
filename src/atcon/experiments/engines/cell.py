"""One cell: computed or continued by one process at a time, then recorded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from atcon import records
from atcon.alone import TakenError, alone_now
from atcon.errors import InputError
from atcon.experiments.cell_record import cell_record
from atcon.experiments.config import dump_config
from atcon.experiments.engines.failures import (
    failure_path,
    forget_failure,
    note_failure,
    reason_of,
)
from atcon.experiments.engines.work import Outcome, Work
from atcon.experiments.grid import Cell, fingerprint
from atcon.experiments.progress import Progress
from atcon.experiments.run import run


def compute(work: Work, cell: Cell, progress: Progress) -> Outcome:
    """Compute a cell, or finish one that was cut short, unless another process does so now.

    A cell is a run in `out/NAME/CELL`; its record, `results/NAME/CELL.json`, is small and marks it
    as finished, so that the records alone let another machine go on. The weights are removed after
    it unless they are asked for. Whatever goes wrong is recorded, and ends this cell alone.
    """
    try:
        with _claimed(work, cell):
            if not work.record(cell).exists():
                progress.note(f"{work.experiment.name}, {cell.name}")
                _compute(work, cell, progress)
            forget_failure(work, cell)
    except TakenError:
        return Outcome("elsewhere")
    except Exception as error:
        reason = reason_of(error)
        note_failure(work, cell, reason, error)
        return Outcome("failed", reason, again=not isinstance(error, InputError))
    return Outcome("finished")


@contextmanager
def _claimed(work: Work, cell: Cell) -> Iterator[None]:
    """Hold the lock of a cell, which the operating system takes from a process that ends.

    What a killed one left of the cell's records is removed.
    """
    root = work.folder(cell).root
    root.parent.mkdir(parents=True, exist_ok=True)
    with alone_now(root):
        for path in (work.record(cell), failure_path(work, cell)):
            records.sweep_parts(path)
        yield


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
    if not work.keep_weights:  # before the record, which nobody looks behind
        shutil.rmtree(folder.root / "checkpoints", ignore_errors=True)
    records.write_json(work.record(cell), content)
