"""Tables 2 to 5 of the supplement for a table of events, or for the clips that were cut of one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atcon import __version__, records
from atcon.data.cutting import ClipForm
from atcon.data.describe import WHOLE, describe
from atcon.data.events import Event, Omissions, read_events
from atcon.data.manifest import MANIFEST, form_of, listed_clips
from atcon.data.planning import divided, planned_windows
from atcon.errors import InputError
from atcon.experiments.clips import omissions_record, part_shares

COLUMNS = ("split", "label", "windows", "mean", "median", "std", "total", "patients")
"""Of the tables as one CSV: a row per split and class."""
_COMMAND = "atcon describe"


def describe_source(
    source: Path, *, shares: Sequence[float] | None = None, seed: int = 0, on_bad: str = "skip"
) -> dict[str, Any]:
    """Describe the events of a table, or the clips of a folder, in all and by split.

    Args:
        source: A table as for `make_clips`, or a folder that it made.
        shares: Of train, validation and test: a table without splits is divided as `make_clips`
            would, if no clip had to be left out for its frames. None leaves it undivided.
        seed: Of the division.
        on_bad: What happens to rows that cannot be used: "skip" or "error".

    Raises:
        InputError: There is neither, it has no event, or a setting is wrong.
        BadVideoError: A row cannot be used and the policy is "error".
    """
    omissions = Omissions(on_bad)
    events: Sequence[Event]
    parts: dict[str, str] | None = None
    division: dict[str, Any] | None = {"from": "folder"}
    if source.is_dir():
        events = _of_folder(source, shares)
    else:
        events = read_events(source, omissions)
        _check_left(source, events, omissions)
        parts, division = _division(source, events, shares, seed)
    tables = describe(events, parts)
    inside = sum(table.all.windows for part, table in tables.items() if part != WHOLE)
    return {
        "atcon": __version__,
        "source": str(source),
        "unit": "clips" if source.is_dir() else "events",
        "classes": list(tables[WHOLE].classes),
        "division": division,
        "undivided": len(events) - inside if division else 0,
        "tables": {part: table.to_record() for part, table in tables.items()},
        **omissions_record(omissions),
    }


def write_tables(path: Path, record: Mapping[str, Any]) -> None:
    """Write the tables as one CSV; an older one of this kind is replaced, nothing else.

    Seconds are not rounded. An empty split is all of them, and an empty label all classes: neither
    can be the name of one.

    Raises:
        InputError: Another file or a folder lies there.
    """
    check_writable(path)
    records.write_csv(path, COLUMNS, _rows(record))


def check_writable(path: Path) -> None:
    """Refuse a path where something else than an older table lies."""
    records.check_replaceable(path, COLUMNS, _COMMAND)


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for part, table in record["tables"].items():
        for label, row in (*table["classes"].items(), ("", table["all"])):
            yield "" if part == WHOLE else part, label, *(row[key] for key in COLUMNS[2:])


def _of_folder(base: Path, shares: Sequence[float] | None) -> list[Event]:
    if not (base / MANIFEST).is_file():
        raise InputError(f"{base}: no folder of atcon clips (with {MANIFEST}); give the table")
    if shares is not None:
        raise InputError(f"--shares: the clips of {base} are divided already; leave it out")
    form_of(base)  # which says whether all clips are there
    found = [clip.event for clip in listed_clips(base)]
    if not found:
        raise InputError(f"{base / MANIFEST}: lists no clip")
    return found


def _check_left(table: Path, events: Sequence[Event], omissions: Omissions) -> None:
    if not events:
        reasons = Counter(entry.message for entry in omissions.entries)
        raise InputError(
            f"{table}: no event is left of it; {next(iter(reasons), 'it has no rows')}"
        )


def _division(
    table: Path, events: Sequence[Event], shares: Sequence[float] | None, seed: int
) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
    """Give the part of every patient that has a clip, and how it was found."""
    wanted = None if shares is None else part_shares(shares)
    if events[0].part is not None:
        return None, {"from": "table"}
    if wanted is None:
        return None, None
    planned = planned_windows(events, ClipForm(), Omissions("skip"))
    if not planned:
        raise InputError(f"{table}: no event has a whole clip, so there is nothing to divide")
    return divided([window.event for window in planned], wanted, seed)
