"""Failed cells: a small record beside the run folder, until the cell is computed."""

import platform
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atcon import records
from atcon.errors import AtconError
from atcon.experiments.engines.work import Work
from atcon.experiments.grid import Cell, fingerprint


def failure_path(work: Work, cell: Cell) -> Path:
    """Where the failure of a cell is recorded."""
    root = work.folder(cell).root
    return root.with_name(f"{root.name}.failed.json")


def reason_of(error: BaseException) -> str:
    """Give an error in words; one that nobody foresaw with its kind."""
    return str(error) if isinstance(error, AtconError) else f"{type(error).__name__}: {error}"


def note_failure(
    work: Work, cell: Cell, reason: str, error: BaseException | None = None
) -> dict[str, Any]:
    """Record why a cell failed; where from, if nobody foresaw it.

    On a full disk there is no record, and the reason is only said.
    """
    unforeseen = error is not None and not isinstance(error, AtconError)
    content = {
        "experiment": work.experiment.name,
        "cell": cell.name,
        "configuration": fingerprint(work.config(cell)),
        "reason": reason,
        "traceback": "".join(traceback.format_exception(error)) if unforeseen else None,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.node(),
    }
    with suppress(OSError):
        records.write_json(failure_path(work, cell), content)
    return content


def forget_failure(work: Work, cell: Cell) -> None:
    """Remove the record of a failure."""
    failure_path(work, cell).unlink(missing_ok=True)


def failure_of(work: Work, cell: Cell) -> str | None:
    """Give the reason why a cell failed; None if it did not, or under another configuration.

    Raises:
        InputError: The record is damaged.
    """
    path = failure_path(work, cell)
    if not path.exists():
        return None
    record = records.read_json(path)
    same = record.get("configuration") == fingerprint(work.config(cell))
    return str(record.get("reason")) if same else None
