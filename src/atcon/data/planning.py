"""Which windows of a table of events become clips, and which patients end in which part."""

from collections.abc import Mapping, Sequence
from typing import Any

from atcon.data.cutting import ClipForm
from atcon.data.events import Event, Omissions, Window, conflict, windows
from atcon.data.grouped import balanced_parts
from atcon.errors import BadVideoError


def planned_windows(events: Sequence[Event], form: ClipForm, omissions: Omissions) -> list[Window]:
    """Give the windows of all events that mean one thing only, each once.

    Raises:
        BadVideoError: One cannot be used and the policy is "error".
    """
    of_video: dict[str, list[Event]] = {}
    for event in events:
        of_video.setdefault(event.video, []).append(event)
    planned: dict[tuple[str, float, float], Window] = {}
    for event in events:
        try:
            found = windows(event, form.seconds, form.step, form.short)
        except BadVideoError as error:
            omissions.add(event, error)
            continue
        for window in found:
            place = (event.video, round(window.start, 6), round(window.end, 6))
            problem = conflict(window, of_video[event.video])
            if problem is None and place in planned:
                what = f"{window.name}: the same clip as of {planned[place].event.name}"
                problem = BadVideoError("repeated", what)
            if problem is None:
                planned[place] = window
            else:
                omissions.add(window, problem)
    return list(planned.values())


def divided(
    events: Sequence[Event], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """Give the part of every patient, and how the parts were found.

    Args:
        events: One for every clip.
        shares: Of the parts, where the events have none of their own.
        seed: Of the search.
    """
    if events[0].part is not None:
        return {event.patient: event.part or "" for event in events}, {"from": "table"}
    classes = sorted({event.label for event in events})
    found = balanced_parts(
        [event.patient for event in events],
        [(classes.index(event.label),) for event in events],
        shares,
        classes=len(classes),
        seed=seed,
    )
    return found.parts, {"from": "search", "worst": found.worst}
