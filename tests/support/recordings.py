"""Recordings as a clinic has them: patients in file names, in the table and in every tag."""

import shutil
from pathlib import Path

from patients import GROUPS, NAMES
from videos import make_video, write_events

TAGS = {
    "title": "PatientImTitel",
    "comment": "BefundImKommentar",
    "artist": "ArztImTag",
    "location": "+48.7758+009.1829/",
    "description": "KlinikInDerBeschreibung",
    "creation_time": "1931-02-03T04:05:06.000000Z",
    "handler_name": "GeraetImHandler",
    "patient_id": "KennungImEigenenTag",
}
MARKERS = tuple(text for key, text in TAGS.items() if key != "creation_time")
"""What stands in the tags as text; the time is a number in the file."""
BORN = TAGS["creation_time"][:10]


def make_recordings(root: Path, patients: int = 6) -> Path:
    """Write recordings of 5 s with two events each, and one row that cannot be used.

    Returns:
        The table of events.
    """
    first = make_video(root / "first.mp4", 5, tags=TAGS)
    rows = []
    for patient in range(patients):
        video = f"{NAMES[0]} {NAMES[1]} {patient}.mp4"
        shutil.copy(first, root / video)
        who = f'"{GROUPS[patient % len(GROUPS)]} {patient}"'
        rows += [f"{video},{who},{2.5 * k},{2.5 * k + 2},{'ab'[k]}" for k in range(2)]
    first.unlink()
    rows += [f"{video},{who},2.1,2.3,a", f'{NAMES[0]}.mp4,"{GROUPS[0]}",0,2,b']
    return write_events(root / "events.csv", rows)
