"""Which frames of a decoder can be trusted: none that may build on a lost or damaged one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from av.video.frame import PictureType, VideoFrame

from atcon.errors import BadVideoError

EXACT = 1e-6
"""Seconds: a time written in decimals may lie this much beside its frame."""

_MOST = 32  # frames in a row that build on a later one; more are looked at by themselves


class Problem(NamedTuple):
    """What a decoder complained of, and the time stamp of what it could not decode."""

    error: BadVideoError
    place: int | None


class Shown(NamedTuple):
    """A frame, when it appears, how long it says that it lasts, and why it may be wrong."""

    frame: VideoFrame
    time: float
    seconds: float
    doubt: BadVideoError | None


def trusted(
    frames: Iterable[VideoFrame | Problem],
    time_of: Callable[[int], float],
    bad: Callable[[str, str], BadVideoError],
    max_gap: float,
) -> Iterator[Shown]:
    """Judge frames in the order shown, together with those that they build on.

    After a problem, and after a step longer than `max_gap`, frames are doubted until a key frame
    that is shown later. So are the bidirectional frames before it: they build on the next frame,
    which may be the lost one.

    Args:
        frames: From a decoder.
        time_of: Turns time stamps into seconds.
        bad: Makes an error of a reason and what is wrong.
        max_gap: In seconds.

    Raises:
        BadVideoError: A frame has no time stamp, or is not after the one before.
    """
    state = _State(time_of, bad, max_gap)
    group: list[VideoFrame] = []
    for item in frames:
        if isinstance(item, Problem):
            state.doubt = item
            continue
        group.append(item)
        if item.pict_type != PictureType.B or len(group) == _MOST:
            yield from state.judge(group)
            group = []
    yield from state.judge(group)


class _State:
    """What is known of the frames so far."""

    def __init__(
        self,
        time_of: Callable[[int], float],
        bad: Callable[[str, str], BadVideoError],
        max_gap: float,
    ) -> None:
        self.doubt: Problem | None = None
        self._time_of = time_of
        self._bad = bad
        self._max_gap = max_gap
        self._before: float | None = None

    def judge(self, group: Sequence[VideoFrame]) -> Iterator[Shown]:
        """Judge bidirectional frames and the one that they build on."""
        times = [self._look(frame) for frame in group]
        for frame, time in zip(group, times, strict=True):
            place = None if self.doubt is None else self.doubt.place
            if frame.key_frame and (place is None or (frame.pts or 0) > place):
                self.doubt = None
            seconds = self._time_of(frame.duration) - self._time_of(0)
            yield Shown(frame, time, seconds, self.doubt and self.doubt.error)

    def _look(self, frame: VideoFrame) -> float:
        """Give the time of the next frame, and note what is wrong with it or before it."""
        if frame.pts is None:
            raise self._bad("timestamps", "a frame has no time stamp")
        time, before = self._time_of(frame.pts), self._before
        if before is not None and time <= before:
            raise self._bad("timestamps", f"its time stamps do not ascend after {before:g} s")
        if frame.is_corrupt:
            self.doubt = Problem(self._bad("damaged", f"damaged at {time:g} s"), frame.pts)
        elif before is not None and time - before > self._max_gap + EXACT and not frame.key_frame:
            lost = f"no frame between {before:g} and {time:g} s; those after may build on lost ones"
            self.doubt = Problem(self._bad("gap", lost), frame.pts)
        self._before = time
        return time
