"""From a table of events to a folder of clips: cut, divided by patient, and listed with hashes."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atcon import __version__, records
from atcon.data.clip_files import clip_key
from atcon.data.cutting import ClipForm, Cut, cut_clips
from atcon.data.events import Event, Omissions, read_events
from atcon.data.planning import divided, planned_windows
from atcon.errors import InputError
from atcon.experiments.folder import only_writer
from atcon.experiments.progress import Progress

COLUMNS = ("file", "label", "patient", "split", "video", "start", "end", "sha256")
PARTS = ("train", "validation", "test")
MANIFEST = "clips.csv"
RECORD = "clips.json"


class _Folder:
    """The clips of one output folder, by key."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.found: set[str] = set()

    def name(self, key: str) -> str:
        """Give the file of a key, relative to the folder; it tells nothing about the patient."""
        return f"clips/{key[:20]}.safetensors"

    def find(self, key: str) -> str | None:
        """Give the SHA-256 of a whole clip that is there already."""
        path = self._out / self.name(key)
        if clip_key(path) != key:
            return None
        self.found.add(key)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def put(self, key: str, content: bytes) -> None:
        """Write a clip whole or not at all."""
        with records.whole_file(self._out / self.name(key)) as part:
            part.write_bytes(content)

    def sweep(self, cuts: Sequence[Cut]) -> None:
        """Remove clips that are not of `cuts` (their recording was replaced), and leftovers."""
        known = {self._out / self.name(cut.key) for cut in cuts}
        for path in (self._out / "clips").glob("*.safetensors"):
            if path not in known:
                path.unlink()
        records.sweep(self._out)


def make_clips(
    table: Path,
    out: Path,
    form: ClipForm | None = None,
    *,
    shares: Sequence[float] = (1, 1, 1),
    seed: int = 0,
    on_bad: str = "skip",
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Cut the clips of a table of events into `out`, and give what `clips.json` holds.

    What was begun with the same table and settings is continued: a clip that is whole is kept.

    Args:
        table: The events; see `read_events`.
        out: A new folder, or one that this began.
        form: How clips are cut.
        shares: Of train, validation and test, in proportion; where the table has no splits.
        seed: Of the division.
        on_bad: What happens to events and clips that cannot be used: "skip" or "error".
        workers: Threads; by default one per core.
        progress: Who is told how it goes.

    Raises:
        InputError: The table or a setting is wrong, `out` holds something else, another process
            writes there, the folder of a recording is gone, or nothing is left.
        BadVideoError: An event or clip cannot be used and the policy is "error".
    """
    form, progress = form or ClipForm(), progress or Progress()
    wanted = part_shares(shares)
    omissions = Omissions(on_bad)
    events = read_events(table, omissions)
    settings = {**asdict(form), "stride": form.step, "shares": wanted, "seed": seed}
    out.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(out, out):
        begun = _begin(table, out, settings)
        folder = _Folder(out)
        planned = planned_windows(events, form, omissions)
        progress.begin("clips", len(planned))
        cuts = cut_clips(
            table.parent,
            planned,
            form,
            folder,
            omissions,
            workers=workers,
            progress=lambda done: progress.advance({}, done),
        )
        progress.end()
        if not cuts:
            reasons = Counter(entry.message for entry in omissions.entries)
            raise InputError(
                f"{table}: no clip is left of it; {next(iter(reasons), 'it has no rows')}"
            )
        parts, balance = divided([cut.window.event for cut in cuts], wanted, seed)
        records.write_csv(out / MANIFEST, COLUMNS, (_row(folder, cut, parts) for cut in cuts))
        folder.sweep(cuts)
        record = {**begun, "complete": True, **_outcome(events, cuts, parts, omissions)}
        record["balance"] = balance
        records.write_json(out / RECORD, record)
        return {**record, "kept": len(folder.found)}


def part_shares(shares: Sequence[float]) -> dict[str, float]:
    """Give the parts that have a share, and their shares of 1.

    Raises:
        InputError: They are not one number of 0 or more for each part, or all are 0.
    """
    if len(shares) != len(PARTS) or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise InputError(
            f"--shares: three numbers of 0 or more are needed, for {', '.join(PARTS)}; "
            f"found {', '.join(f'{share:g}' for share in shares)}"
        )
    return {p: share / sum(shares) for p, share in zip(PARTS, shares, strict=True) if share}


def _begin(table: Path, out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write down what the folder is for; refuse one that is for something else."""
    content = table.read_bytes()
    begun: dict[str, Any] = {
        "atcon": __version__,
        "complete": False,
        "events": {"file": table.name, "sha256": hashlib.sha256(content).hexdigest()},
        "settings": dict(settings),
    }
    if (out / RECORD).exists():
        before = records.read_json(out / RECORD)
        old, new = before.get("settings", {}), begun["settings"]
        changed = [key for key in new if old.get(key) != new[key]]
        if before.get("events") != begun["events"]:
            changed.append("the table of events")
        if changed:
            raise InputError(
                f"{out}: its clips were cut with other settings ({', '.join(changed)}); "
                f"choose another --out"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a folder of clips: choose another --out")
    records.write_json(out / RECORD, begun)
    return begun


def _row(folder: _Folder, cut: Cut, parts: Mapping[str, str]) -> tuple[str, ...]:
    window, event = cut.window, cut.window.event
    times = (f"{window.start:.6f}", f"{window.end:.6f}")
    split = parts[event.patient]
    name = folder.name(cut.key)
    return (name, event.label, event.patient, split, event.video, *times, cut.sha256)


def _outcome(
    events: Sequence[Event], cuts: Sequence[Cut], parts: Mapping[str, str], omissions: Omissions
) -> dict[str, Any]:
    """Give the counts, by part and by reason."""
    classes = sorted({cut.window.event.label for cut in cuts})
    of_part: dict[str, list[Event]] = {part: [] for part in PARTS}
    for cut in cuts:
        of_part[parts[cut.window.event.patient]].append(cut.window.event)
    return {
        "classes": classes,
        "counts": {
            "events": len(events),
            "clips": len(cuts),
            "patients": len({cut.window.event.patient for cut in cuts}),
            "recordings": len({cut.window.event.video for cut in cuts}),
        },
        "parts": {
            part: {
                "clips": len(found),
                "patients": len({event.patient for event in found}),
                "classes": {name: sum(e.label == name for e in found) for name in classes},
            }
            for part, found in of_part.items()
        },
        **omissions_record(omissions),
    }


def omissions_record(omissions: Omissions) -> dict[str, Any]:
    """Give what was left out: counted by reason and unit, and each with its message."""
    left_out: dict[str, dict[str, int]] = {}
    for entry in omissions.entries:
        counts = left_out.setdefault(entry.reason, {"event": 0, "clip": 0})
        counts[entry.unit] += 1
    return {"left_out": left_out, "skipped": [asdict(entry) for entry in omissions.entries]}
