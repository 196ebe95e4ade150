"""Clips as a data set: those that `atcon clips` made, or the windows of a table of events."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load as tensors_of

from atcon.data.clip_files import CLIP_SUFFIX, read_clip
from atcon.data.cutting import ClipForm, cut_clips
from atcon.data.describe import describe
from atcon.data.events import Event, Omissions, read_events
from atcon.data.image_set import ImageSet
from atcon.data.labels import check_classes, label_index
from atcon.data.manifest import MANIFEST, clip_name, form_of, present_clips
from atcon.data.planning import divided, planned_windows
from atcon.data.policy import OnBadImage, Skips
from atcon.errors import BadVideoError, InputError
from atcon.types import Example, Pixels

EVENTS = "events.csv"
MOST_IN_MEMORY = 5000
"""Clips of a table of events; more belong into a folder."""
_THIRDS = {"train": 1 / 3, "validation": 1 / 3, "test": 1 / 3}


def clips(
    root: str | Path,
    *,
    form: ClipForm | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    on_bad_image: OnBadImage = "skip",
) -> ImageSet:
    """Index clips: one class each, the patient as group, and parts that no two of share a patient.

    Args:
        root: A folder that `atcon clips` made. Or a table of events, or the folder of an
            `events.csv`: then all clips are cut now, into memory, and divided by patient into
            thirds unless the table has splits.
        form: How clips are cut; of a table only.
        seed: Of the division; of a table only.
        classes: A selection of the labels, in the order wanted; clips of others are left out.
        on_bad_image: What happens to what cannot be used: "skip" or "error".

    Raises:
        InputError: There is neither, the folder is not complete, or a class or part is empty.
        BadImageError: A clip or event cannot be used and the policy is "error".
    """
    base = Path(root)
    if (base / MANIFEST).is_file():
        if form is not None:
            raise InputError(f"data.clip: the clips of {base} are cut already; leave it out")
        return _of_folder(base, classes, on_bad_image)
    table = base / EVENTS if base.is_dir() else base
    if not table.is_file():
        raise InputError(
            f"data.root: {base} is neither a folder of atcon clips (with {MANIFEST}), nor a table "
            f"of events, nor the folder of an {EVENTS}"
        )
    return _of_table(table, form or ClipForm(), seed, classes, on_bad_image)


def _of_folder(base: Path, classes: Sequence[str] | None, policy: OnBadImage) -> ImageSet:
    skips, found = Skips(policy), []
    hashes = {}
    for event, path, sha256 in present_clips(base, skips):
        found.append(_Clip(event, str(path)))
        hashes[event.name] = sha256

    def read(example: Example) -> Pixels:
        _check_listed(example, hashes[example.name])
        return _read_file(example)

    return _image_set(base, found, form_of(base), classes, tuple(skips.entries), read)


def _check_listed(example: Example, sha256: str | None) -> None:
    """Hold that a clip is the one of the manifest: another whole clip may lie in its place."""
    path = Path(example.path or "")
    if sha256 and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise BadVideoError(
            "damaged", f"{path}: not the clip that {MANIFEST} lists, whose SHA-256 differs"
        )


def _of_table(
    table: Path,
    form: ClipForm,
    seed: int,
    classes: Sequence[str] | None,
    policy: OnBadImage,
) -> ImageSet:
    omissions = Omissions(policy)
    events = read_events(table, omissions)
    windows = planned_windows(events, form, omissions)
    if len(windows) > MOST_IN_MEMORY:
        raise InputError(
            f"{table}: {len(windows)} clips are too many to be cut at every run; cut them once "
            f"with atcon clips {table} --out DIR, and set data.root to DIR"
        )
    memory = _Memory()
    cuts = cut_clips(table.parent, windows, form, memory, omissions)
    if not cuts:
        reason = omissions.entries[0].message if omissions.entries else "it has no rows"
        raise InputError(f"{table}: no clip is left of it; {reason}")
    parts, _ = divided([cut.window.event for cut in cuts], _THIRDS, seed)
    found: list[_Clip] = []
    keys = {}
    for cut in cuts:
        event, start, end = cut.window.event, cut.window.start, cut.window.end
        name, part = clip_name(event.video, start, end), parts[event.patient]
        found.append(_Clip(replace(event, name=name, start=start, end=end, part=part)))
        keys[name] = cut.key
    skipped = tuple(
        (entry.name, entry.message.removeprefix(f"{entry.name}: ")) for entry in omissions.entries
    )

    def read(example: Example) -> Pixels:
        return memory.pixels(keys[example.name])

    return _image_set(table.parent, found, form, classes, skipped, read)


class _Memory:
    """Keeps clips by key, as `cut_clips` wants it."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def find(self, key: str) -> str | None:
        """Nothing is there before it is cut."""
        del key
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep the content of a clip's file."""
        self._contents[key] = content

    def pixels(self, key: str) -> Pixels:
        """Give the pixels of a clip."""
        return tensors_of(self._contents[key])["pixels"]


class _Clip(NamedTuple):
    """A clip as the event that it is, and its file if it has one."""

    event: Event
    path: str | None = None


def _image_set(
    base: Path,
    found: Sequence[_Clip],
    form: ClipForm,
    classes: Sequence[str] | None,
    skipped: tuple[tuple[str, str], ...],
    read: Callable[[Example], Pixels],
) -> ImageSet:
    """Sort clips into their parts, and describe those that are of the classes."""
    present = sorted({event.label for event, _ in found})
    names = check_classes(present if classes is None else classes, base)
    for name in names:
        label_index(name, present, "data.classes")
    kept = [clip for clip in found if clip.event.label in names]
    parts: dict[str | None, list[Example]] = {"train": [], "validation": [], "test": []}
    for event, path in kept:
        label = names.index(event.label)
        parts[event.part].append(Example(event.name, (label,), (), path, event.patient))
    for part in ("train", "test"):
        if not parts[part]:
            raise InputError(f"{base}: no clips in the {part} part; both train and test need some")
    return ImageSet(
        name="clips",
        classes=names,
        multi_label=False,
        pool=tuple(parts["train"]),
        test=tuple(parts["test"]),
        read=read,
        validation=tuple(parts["validation"]) or None,
        skipped=skipped,
        root=base,
        frames=form.frames,
        rate=form.rate,
        described=describe([event for event, _ in kept]),
    )


def _read_file(example: Example) -> Pixels:
    if example.path is None:
        raise InputError(f"{example.name}: the clip has no file")
    return read_clip(example.path)


def unlabelled_clips(root: str | Path, like: ImageSet) -> ImageSet:
    """Index every clip file below a folder, as clips without labels of the form of `like`.

    Raises:
        InputError: There is no such folder, or no clip in it.
    """
    base = Path(root)
    paths = sorted(base.rglob(f"*{CLIP_SUFFIX}")) if base.is_dir() else []
    if not paths:
        raise InputError(
            f"consistency.unlabelled_root: there is no clip of atcon clips below {base}"
        )
    examples = tuple(
        Example(f"unlabelled/{path.relative_to(base).as_posix()}", (), (), str(path))
        for path in paths
    )
    return ImageSet(
        "unlabelled",
        (),
        True,
        examples,
        (),
        _read_file,
        root=base,
        frames=like.frames,
        rate=like.rate,
    )
