"""A table of events in long recordings: what is labelled when, of whom, and the windows in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from atcon.data.policy import Skips
from atcon.data.tables import part_name, read_rows, relative_path
from atcon.errors import BadVideoError, LeakError

COLUMNS = ("video", "patient", "start", "end", "label")

REASONS = {
    "patient": "no patient",
    "label": "no label",
    "times": "start and end are not two times in order",
    "repeated": "the same a second time",
    "overlap": "overlaps an event with another label or patient",
    "short": "shorter than a clip",
    "missing": "no such recording",
    "unreadable": "the recording cannot be opened",
    "codec": "unknown video codec",
    "outside": "outside its recording",
    "truncated": "after the end of a truncated recording",
    "damaged": "the recording is damaged there",
    "gap": "frames are missing there",
    "timestamps": "frames without usable time stamps",
}
"""Why an event or a clip is left out."""

_EXACT = 1e-6  # seconds: less is rounding


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the table.

    Attributes:
        name: For messages: table, line, recording and times.
        video: The recording, relative to the table's folder.
        patient: Whom it shows.
        start: Seconds from the recording's first frame.
        end: Likewise; after the start.
        label: What happens.
        part: train, validation, test, or None where the table has no column `split`.
    """

    name: str
    video: str
    patient: str
    start: float
    end: float
    label: str
    part: str | None = None

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of an event that becomes a clip; it ends before `end`."""

    event: Event
    start: float
    end: float

    @property
    def name(self) -> str:
        """For messages: the event's name, and the stretch."""
        return f"{self.event.name}, clip at {self.start:g} s"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An event or a clip that is not used.

    Attributes:
        name: Of the event or window.
        unit: event or clip.
        reason: A key of `REASONS`.
        message: What is wrong, and where.
    """

    name: str
    unit: Literal["event", "clip"]
    reason: str
    message: str


class Omissions:
    """Collects the events and clips that are left out, or raises, as the policy says.

    Attributes:
        entries: In the order met; an event once, whatever else is wrong with it.
    """

    def __init__(self, policy: str) -> None:
        self._skips = Skips(policy, "--on-bad")
        self.entries: list[LeftOut] = []
        self._names: set[str] = set()

    def add(self, what: "Event | Window | str", error: BadVideoError) -> None:
        """Record an event (or its name) or a window, and go on, or raise `error`."""
        unit: Literal["event", "clip"] = "clip" if isinstance(what, Window) else "event"
        name = what if isinstance(what, str) else what.name
        if name in self._names:
            return
        self._names.add(name)
        self._skips.add(name, error)
        self.entries.append(LeftOut(name, unit, error.reason, str(error)))


def read_events(path: Path, omissions: Omissions) -> tuple[Event, ...]:
    """Read `video, patient, start, end, label` and perhaps `split`; other columns are ignored.

    Times are seconds, or `[HH:]MM:SS`. Rows that cannot be used go to `omissions`.

    Raises:
        InputError: The table cannot be read, a column is missing, a recording lies outside the
            table's folder, a split is unknown, or a patient is in two.
        BadVideoError: A row cannot be used and the policy is "error".
    """
    events: dict[Event, Event] = {}
    for number, row in read_rows(path, set(COLUMNS)):
        where = f"{path.name}, line {number}"
        video = relative_path(row["video"], path.parent, where)
        name = f"{where} ({video}, {row['start']} to {row['end']})"
        try:
            event = _event(name, video, row, part_name(row, where))
        except BadVideoError as error:
            omissions.add(name, error)
            continue
        first = events.setdefault(replace(event, name=""), event)
        if first is not event:
            what = f"{name}: the same as {first.name.partition(' (')[0]}"
            omissions.add(event, BadVideoError("repeated", what))
    found = tuple(events.values())
    _check_parts(path, found)
    return found


def windows(event: Event, seconds: float, stride: float, short: str) -> list[Window]:
    """Give the windows of an event: as many as fit, from its start.

    Raises:
        BadVideoError: None fits and `short` is "skip"; with "pad" it is one window that ends early.
    """
    if event.seconds < seconds - _EXACT:
        if short == "pad":
            return [Window(event, event.start, event.end)]
        raise BadVideoError(
            "short",
            f"{event.name}: lasts {event.seconds:g} s, shorter than a clip of {seconds:g} s",
        )
    count = int((event.seconds - seconds + _EXACT) / stride) + 1
    starts = [event.start + index * stride for index in range(count)]
    return [Window(event, start, start + seconds) for start in starts]


def conflict(window: Window, others: Sequence[Event]) -> BadVideoError | None:
    """Say which event of `others`, of the same recording, gives the window two meanings."""
    for other in others:
        differs = (other.label, other.patient) != (window.event.label, window.event.patient)
        overlap = min(window.end, other.end) - max(window.start, other.start)
        if differs and overlap > _EXACT:
            what = f"{other.label!r} of {other.name.partition(' (')[0]}"
            return BadVideoError("overlap", f"{window.name}: overlaps {what}")
    return None


def _event(name: str, video: str, row: Mapping[str, str], part: str | None) -> Event:
    for column in ("patient", "label"):
        if not row[column]:
            raise BadVideoError(column, f"{name}: {REASONS[column]}")
    try:
        start, end = _seconds(row["start"]), _seconds(row["end"])
    except ValueError:
        start, end = 0.0, 0.0
    if not 0 <= start < end < float("inf"):
        raise BadVideoError("times", f"{name}: {REASONS['times']}")
    return Event(name, video, row["patient"], start, end, row["label"], part)


def _seconds(text: str) -> float:
    """Read seconds or `[HH:]MM:SS`."""
    fields = [float(field) for field in text.split(":")]
    if len(fields) > 3 or min(fields) < 0 or max(fields[1:], default=0.0) >= 60:
        raise ValueError(text)
    seconds = 0.0
    for field in fields:
        seconds = 60 * seconds + field
    return seconds


def _check_parts(path: Path, events: Sequence[Event]) -> None:
    """Hold that no patient is in two parts."""
    by_patient = sorted(events, key=lambda event: event.patient)
    for one, two in pairwise(by_patient):
        if one.patient == two.patient and one.part != two.part:
            raise LeakError(
                f"{path}: patient {one.patient!r} is in {one.part} and in {two.part}; all events "
                f"of a patient belong in one split"
            )
