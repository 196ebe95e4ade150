"""The list of a folder of clips that `atcon clips` made, and how they were cut."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from atcon.data.cutting import ClipForm
from atcon.data.events import Event
from atcon.data.policy import Skips
from atcon.data.tables import is_there, part_name, read_rows, relative_path
from atcon.errors import BadVideoError, InputError
from atcon.plain_text import as_written

MANIFEST, ABOUT = "clips.csv", "clips.json"
_FORMAT = 1
"""Of the record, which `atcon.records` writes; this package does not see it."""
_COLUMNS = {"file", "label", "patient", "split", "video", "start", "end"}


class ListedClip(NamedTuple):
    """A clip as the event that it is; its file, which may be missing, and the SHA-256 of it."""

    event: Event
    path: Path
    sha256: str | None


def listed_clips(base: Path) -> Iterator[ListedClip]:
    """Give every clip of a folder.

    Raises:
        InputError: The list cannot be read, or a line of it is not that of a clip.
    """
    for number, row in read_rows(base / MANIFEST, _COLUMNS):
        where = f"{base / MANIFEST}, line {number}"
        part = part_name(row, where)
        if part is None:
            raise InputError(f"{where}: the column split is empty")
        try:
            start, end = float(row["start"]), float(row["end"])
        except ValueError as error:
            raise InputError(f"{where}: start and end are not two numbers ({error})") from None
        video, patient, label = (as_written(row[key]) for key in ("video", "patient", "label"))
        event = Event(clip_name(video, start, end), video, patient, start, end, label, part)
        path = base / relative_path(row["file"], base, where)
        yield ListedClip(event, path, row.get("sha256"))


def present_clips(base: Path, skips: Skips) -> Iterator[ListedClip]:
    """Give every clip of a folder whose file is there; what happens to others, the policy says.

    Raises:
        InputError: As for `listed_clips`.
        BadVideoError: A file is missing and the policy is "error".
    """
    for clip in listed_clips(base):
        if is_there(clip.path):
            yield clip
        else:
            skips.add(clip.event.name, BadVideoError("missing", f"{clip.path}: no such clip"))


def clip_name(video: str, start: float, end: float) -> str:
    """Name a clip by its recording and its times, which a reader can look up."""
    return f"{video} {start:g}-{end:g} s"


def form_of(base: Path) -> ClipForm:
    """Read how the clips of a folder were cut.

    Raises:
        InputError: The folder has no such record, or its clips are not complete.
    """
    path = base / ABOUT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        complete, settings = record["complete"], record["settings"]
        form = {key: settings[key] for key in ("seconds", "rate", "size")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the record of atcon clips ({error})") from error
    if record.get("format") != _FORMAT:
        raise InputError(
            f"{path}: record format {record.get('format')!r}, but this atcon reads format {_FORMAT}"
        )
    if not complete:
        raise InputError(f"{path}: the clips are not complete; run the same atcon clips again")
    return ClipForm(**form)
