"""Windows of recordings become clips: in parallel, each once, and none with a doubtful frame."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch

from atcon.data.clip_files import ClipPixels, clip_bytes
from atcon.data.decoding import Recording
from atcon.data.events import Event, Omissions, Window
from atcon.data.policy import check_folder
from atcon.errors import BadVideoError, InputError

_CHUNK = 120.0  # seconds of windows: enough to open a recording for, and to share among threads
_ENDS = 2**20  # bytes at both ends of a recording that tell it from another
_EXACT = 1e-6  # seconds


@dataclass(frozen=True, slots=True)
class ClipForm:
    """How clips are cut; by default as in the paper.

    Attributes:
        seconds: Length of a clip.
        rate: Frames per second of a clip.
        size: Side of its frames, in pixels.
        stride: Seconds from the start of a window to that of the next one of the same event; None
            is `seconds`, so that windows do not overlap.
        short: What becomes of an event shorter than a clip: "skip", or "pad" by its last frame.
        max_gap: Of `Recording.frames`.

    Raises:
        InputError: A number is not positive, the frames of a clip are not a whole number, or
            `short` is another word.
    """

    seconds: float = 4.0
    rate: float = 4.0
    size: int = 80
    stride: float | None = None
    short: str = "skip"
    max_gap: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "rate", "size", "stride", "max_gap"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"--{name.replace('_', '-')}: {value} is not positive")
        if self.short not in ("skip", "pad"):
            raise InputError(f"--short: {self.short!r} is not a policy; use 'skip' or 'pad'")
        if self.frames < 1 or abs(self.seconds * self.rate - self.frames) > _EXACT:
            raise InputError(
                f"--seconds {self.seconds:g} at --rate {self.rate:g} are "
                f"{self.seconds * self.rate:g} frames, not a whole number"
            )

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return round(self.seconds * self.rate)

    @property
    def step(self) -> float:
        """Seconds from one window to the next."""
        return self.stride or self.seconds


@dataclass(frozen=True, slots=True)
class Cut:
    """A window that is a clip now.

    Attributes:
        window: What was cut.
        key: Of its file: the same for the same frames of the same recording.
        sha256: Of its file's content.
    """

    window: Window
    key: str
    sha256: str


class Store(Protocol):
    """Where clips are kept, by key; called from several threads."""

    def find(self, key: str) -> str | None:
        """Give the SHA-256 of a whole clip that is there already."""

    def put(self, key: str, content: bytes) -> None:
        """Keep the content of a clip's file."""


def cut_clips(
    root: Path,
    windows: Sequence[Window],
    form: ClipForm,
    store: Store,
    omissions: Omissions,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Cut]:
    """Cut windows, in their order, into `store`; what cannot be cut goes to `omissions`.

    Args:
        root: The folder that the recordings' paths start from.
        windows: What to cut.
        form: How.
        store: Where to; a clip that is there already is not decoded again.
        omissions: What is left out, and the policy.
        workers: Threads; by default one per core.
        progress: Called with the number of windows that were just finished.

    Raises:
        BadVideoError: A window cannot be cut and the policy is "error".
        InputError: The folder of a recording is gone.
    """
    made: list[Cut] = []
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as threads:
        parts = list(_chunks(windows))
        jobs = [threads.submit(_cut_chunk, root / p[0].event.video, p, form, store) for p in parts]
        try:
            for part, job in zip(parts, jobs, strict=True):
                for what, result in job.result():
                    if isinstance(result, BadVideoError):
                        check_folder(root / part[0].event.video)
                        omissions.add(what, result)
                    else:
                        made.append(result)
                if progress is not None:
                    progress(len(part))
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
    return made


def _chunks(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Give windows of one recording, in order of time, some minutes of them together."""
    ordered = sorted(windows, key=lambda window: (window.event.video, window.start))
    for _, of_video in groupby(ordered, key=lambda window: window.event.video):
        chunk: list[Window] = []
        for window in of_video:
            if chunk and sum(w.end - w.start for w in chunk) >= _CHUNK:
                yield chunk
                chunk = []
            chunk.append(window)
        yield chunk


_Result = tuple[Event | Window, Cut | BadVideoError]


def _cut_chunk(path: Path, chunk: Sequence[Window], form: ClipForm, store: Store) -> list[_Result]:
    """Cut windows of one recording; an error of the recording is one of every event of it."""
    try:
        recording = Recording(path, form.max_gap)
    except BadVideoError as error:
        return [(window.event, error) for window in chunk]
    with recording:
        fingerprint = _fingerprint(path)
        return [_cut(recording, fingerprint, window, form, store) for window in chunk]


def _cut(
    recording: Recording, fingerprint: str, window: Window, form: ClipForm, store: Store
) -> _Result:
    event, length = window.event, recording.seconds
    if length is not None and event.end > length + recording.interval + _EXACT:
        what = f"{event.name}: the recording lasts {length:g} s"
        return event, BadVideoError("outside", what)
    key = _key(fingerprint, window, form)
    sha256 = store.find(key)
    if sha256 is None:
        try:
            content = clip_bytes(_pixels(recording, window, form), key)
        except BadVideoError as error:
            return window, BadVideoError(error.reason, f"{window.name}: {error}")
        store.put(key, content)
        sha256 = hashlib.sha256(content).hexdigest()
    return window, Cut(window, key, sha256)


def _pixels(recording: Recording, window: Window, form: ClipForm) -> ClipPixels:
    times = [window.start + index / form.rate for index in range(form.frames)]
    inside = [time for time in times if time < window.end - _EXACT]
    pixels = recording.frames(inside, form.size)
    held = pixels[:, -1:].expand(-1, form.frames - len(inside), -1, -1)
    return torch.cat([pixels, held], dim=1)


def _key(fingerprint: str, window: Window, form: ClipForm) -> str:
    settings = asdict(form)
    del settings["stride"], settings["short"]  # they choose windows; pixels follow from these
    whole = {**settings, "video": window.event.video, "recording": fingerprint, "format": 1}
    whole |= {"start": round(window.start, 6), "end": round(window.end, 6)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> str:
    """Tell a recording from another without reading all of it: its size and both ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(f"{size}:".encode() + file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()
