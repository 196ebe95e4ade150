"""The records of one run, read and checked at the door; what is missing is `None` or empty."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from atcon.errors import InputError
from atcon.records import read_csv, read_json, read_lines

Record = Mapping[str, Any]

STAGES = {"supervised": "Before", "consistency": "After", "uniform": "Uniform mask"}
OUTCOMES = {
    "helps": "It helps",
    "control_explains": "The control explains it",
    "no_difference": "No difference",
    "harms": "It harms",
    "mixed": "Mixed",
    "not_kept": "Start kept",
}


@dataclass(frozen=True)
class Run:
    """What a run folder holds; every part but the summary may be absent."""

    folder: Path
    summary: Record
    epochs: Sequence[Record]
    split: Record
    environment: Record
    config: str
    localisation: Mapping[str, Sequence[Record]]
    gallery: Record
    shared: Record


def read_run(folder: Path) -> Run:
    """Read the records of a run.

    Raises:
        InputError: The summary is missing, or a record is there but not in the known format.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    summary = read_json(folder / "summary.json")
    _check(folder / "summary.json", summary)
    config = folder / "config.yaml"
    return Run(
        folder=folder,
        summary=summary,
        epochs=_table(folder / "metrics.jsonl", read_lines),
        split=_optional(folder / "split.json"),
        environment=_optional(folder / "environment.json"),
        config=config.read_text("utf-8", errors="replace") if config.is_file() else "",
        localisation={
            stage: _table(folder / "localisation" / f"{stage}.csv", read_csv) for stage in STAGES
        },
        gallery=_optional(folder / "gallery" / "index.json"),
        shared=_optional(folder / "shared.json"),
    )


def _optional(path: Path) -> Record:
    return read_json(path) if path.exists() else {}


def _table(path: Path, read: Callable[[Path], Sequence[Record]]) -> Sequence[Record]:
    try:
        return read(path) if path.exists() else ()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: not readable as UTF-8 text ({error})") from error


def _check(path: Path, summary: Record) -> None:
    outcome = str(dig(summary, "verdict", "outcome"))
    if outcome not in OUTCOMES:
        known = ", ".join(OUTCOMES)
        raise InputError(f"{path}: verdict.outcome is {outcome!r}, expected one of: {known}")
    for keys in (("verdict", "sentence"), ("classes",), ("stages", "supervised", "test")):
        if not dig(summary, *keys):
            where = ".".join(keys)
            raise InputError(f"{path}: {where} is missing; did the run finish its evaluation?")


def dig(record: object, *keys: str) -> Any:
    """Follow `keys` into nested tables; `None` where one is absent.

    Raises:
        InputError: Something on the way is neither absent nor a table.
    """
    for depth, key in enumerate(keys):
        if record is None:
            return None
        if not isinstance(record, Mapping):
            where = ".".join(keys[:depth]) or "the record"
            raise InputError(f"{where}: expected a table of values, found {record!r}")
        record = record.get(key)
    return record


def dig_list(record: object, *keys: str) -> list[Any]:
    """Return the list at the end of `keys`; empty if it is absent.

    Raises:
        InputError: It is something else.
    """
    found = dig(record, *keys)
    if found is None or isinstance(found, list):
        return found or []
    raise InputError(f"{'.'.join(keys)}: expected a list, found {found!r}")


def number(value: object, where: str) -> float | None:
    """Return a finite number, or `None` for null and the empty text of a CSV.

    Raises:
        InputError: The value is something else.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            found = float(value)
            if isfinite(found):
                return found
    except ValueError:
        pass
    raise InputError(f"{where}: expected a number or nothing, found {value!r}")


def dig_number(record: object, *keys: str) -> float | None:
    """Return the number at the end of `keys`, or `None`."""
    return number(dig(record, *keys), ".".join(keys))
