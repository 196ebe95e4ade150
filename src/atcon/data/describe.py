"""How many events there are, how long, of how many patients: Tables 2 to 5 of the supplement."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atcon.data.events import Event
from atcon.data.rows import PART_NAMES
from atcon.errors import InputError

WHOLE = "all"
"""Names the table over all parts."""

_PARTS = tuple(dict.fromkeys(PART_NAMES.values()))


@dataclass(frozen=True, slots=True)
class Description:
    """Statistics of some events, in seconds; None where there is no event.

    Attributes:
        windows: How many ("windows" in the paper).
        mean: Of their lengths.
        median: Likewise.
        std: Likewise, of these events as they are (divided by n), as in the paper's tables.
        total: The sum of their lengths.
        patients: How many patients they show.
    """

    windows: int
    mean: float | None
    median: float | None
    std: float | None
    total: float
    patients: int


@dataclass(frozen=True, slots=True)
class LengthTable:
    """One table: a row for each class, and one for all events."""

    classes: Mapping[str, Description]
    all: Description

    def to_record(self) -> dict[str, Any]:
        """Give it as a record holds it."""
        rows = {name: asdict(row) for name, row in self.classes.items()}
        return {"classes": rows, "all": asdict(self.all)}


def describe(
    events: Sequence[Event], parts: Mapping[str, str] | None = None
) -> dict[str, LengthTable]:
    """Describe all events, and those of every part that has some.

    Args:
        events: What is described.
        parts: The part of a patient; one who is not in it is in none. By default the events'.

    Returns:
        The tables by part, that of all events (`WHOLE`) first; each has all classes.

    Raises:
        InputError: There are no events.
    """
    if not events:
        raise InputError("there is no event to describe")
    found = {WHOLE: list(events), **{part: [] for part in _PARTS}}
    for event in events:
        part = event.part if parts is None else parts.get(event.patient)
        if part is not None:
            found[part].append(event)
    classes = sorted({event.label for event in events})
    return {part: _table(of_part, classes) for part, of_part in found.items() if of_part}


def _table(events: Sequence[Event], classes: Sequence[str]) -> LengthTable:
    rows = {name: _row([event for event in events if event.label == name]) for name in classes}
    return LengthTable(rows, _row(events))


def _row(events: Sequence[Event]) -> Description:
    if not events:
        return Description(0, None, None, None, 0.0, 0)
    seconds = np.array([event.seconds for event in events])
    mean, median, std, total = (
        round(float(value), 6)  # beyond a microsecond lies the rounding of times
        for value in (seconds.mean(), np.median(seconds), seconds.std(), seconds.sum())
    )
    return Description(
        len(events), mean, median, std, total, len({event.patient for event in events})
    )
