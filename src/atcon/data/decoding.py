"""Frames of one recording at the times asked for: what a viewer would see then, or an error."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import av
import numpy as np
import torch
from av.logging import ERROR
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from atcon.data.complaints import complaints
from atcon.data.containers import check_place, declared_seconds, opened, pace
from atcon.data.images import resize
from atcon.data.trust import EXACT, Problem, Shown, trusted
from atcon.errors import BadVideoError, InputError

MAX_GAP = 0.25
"""Seconds that a frame of a recording of varying rate may be shown."""

_LOST = 1.5  # frames: a longer step in a recording of constant rate is a lost frame
_NEAR = 10.0  # seconds: what is closer is decoded on the way, about as fast as after a seek
_BACK = (0.0, 2.0, 10.0, 60.0)  # seconds: where a container's index misleads


def read_video(
    path: str | Path, times: Sequence[float], size: int | None = None, max_gap: float | None = None
) -> UInt8[Tensor, "3 frame height width"]:
    """Decode the frames that a recording shows at `times`, uint8 RGB.

    Args:
        path: The recording.
        times: Seconds from its first frame, in ascending order.
        size: Squash to this side as `resize` does; None keeps the frames as they are.
        max_gap: See `Recording`.

    Raises:
        InputError: The times are none, or not in ascending order.
        BadVideoError: The file cannot be used, or a frame may be wrong; see `Recording.frames`.
    """
    with Recording(path, max_gap) as recording:
        return recording.frames(times, size)


class Recording:
    """An open recording; fastest where later calls ask for later frames.

    Time 0 is its first frame, and a frame is shown until the next one.

    Attributes:
        path: The file.
        seconds: How long it says that it lasts, or None.
        interval: Usual seconds from one frame to the next, in the first frames.
        max_gap: A frame that is shown for longer is followed by a gap. By default one and a half
            intervals where the first frames are evenly spaced, else `MAX_GAP`.

    Raises:
        BadVideoError: There is no such file, it is no recording, or its codec is unknown.
    """

    def __init__(self, path: str | Path, max_gap: float | None = None) -> None:
        self.path = Path(path)
        self._container, self._stream = opened(self.path)
        self._tick = float(self._stream.time_base or 0) or 1.0
        self._start = self._stream.start_time or 0
        self.seconds = declared_seconds(self._container, self._stream)
        self.interval, constant = pace(self._container, self._stream)
        default = _LOST * self.interval if constant else MAX_GAP
        self.max_gap = default if max_gap is None else max_gap
        self._frames: Iterator[Shown] = iter(())
        self._shown: Shown | None = None
        self._next: Shown | None = None
        self._heard: list[tuple[int, str, str]] = []
        self._origin = 0.0  # the key frame where decoding began, in seconds
        self._alone = True  # no other key frame was met since

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._lose()
        self._container.close()

    def frames(
        self, times: Sequence[float], size: int | None = None
    ) -> UInt8[Tensor, "3 frame height width"]:
        """Give what is shown at `times`, RGB, rotated as meant.

        Raises:
            InputError: The times are none, or not in ascending order.
            BadVideoError: A frame may be wrong: it lies in a gap, before the first frame or after
                the last one, or between damage or a gap and the next key frame.
        """
        if not len(times) or any(later < time for time, later in pairwise(times)):
            raise InputError(f"{self.path}: times must be given, in ascending order")
        pixels = []
        with complaints() as self._heard:
            for time in times:
                frame = _rgb(self._frame_at(time))
                pixels.append(frame if size is None else resize(frame, size))
        if len({frame.shape for frame in pixels}) > 1:
            raise self._bad("damaged", f"its frames change their size before {times[-1]:g} s")
        return torch.stack(pixels, dim=1)

    def _frame_at(self, time: float) -> VideoFrame:
        """Give the frame shown at `time`, if it is certain."""
        try:
            shown = self._move(time)
            if shown.doubt is not None and self._alone:
                shown = self._move_from_further_back(time, shown)
        except BadVideoError:
            self._lose()
            raise
        age = time - shown.time
        if self._next is None and age > max(shown.seconds, self.interval) + EXACT:
            raise self._after_the_end(time, shown)
        if shown.doubt is not None:
            raise shown.doubt
        stands = 0.0 if self._next is None else self._next.time - shown.time
        if stands > self.max_gap + EXACT and age > self.interval + EXACT:
            raise self._bad("gap", f"no frame for {stands:g} s after {shown.time:g} s")
        return shown.frame

    def _move(self, time: float) -> Shown:
        """Decode up to the last frame that is not after `time`."""
        shown = self._shown
        if shown is None or not -EXACT <= time - shown.time < _NEAR:
            shown = self._seek(time)
        while self._next is not None and self._next.time <= time + EXACT:
            shown, self._next = self._next, next(self._frames, None)
            self._alone &= not shown.frame.key_frame
        self._shown = shown
        return shown

    def _move_from_further_back(self, time: float, doubted: Shown) -> Shown:
        """Come from an earlier key frame.

        After a key frame that earlier frames are referred across (an open group), a decoder that
        began at it complains; one that comes from further back does not.
        """
        origin = self._origin
        if origin <= EXACT:
            return doubted
        self._seek(origin - 2 * EXACT - self._tick)
        return doubted if self._origin >= origin else self._move(time)

    def _seek(self, time: float) -> Shown:
        """Begin at the last key frame that is not after `time`, wherever the index leads."""
        for back in _BACK:
            if time < back:
                break
            try:
                tick = self._start + int((max(time - back, 0.0) + EXACT) / self._tick)
                self._container.seek(tick, stream=self._stream)
            except av.FFmpegError:  # a container that cannot seek is read from its start
                break
            first = self._begin()
            if first is not None and first.time <= time + EXACT:
                return first
        self._container.close()
        self._container, self._stream = opened(self.path)
        first = self._begin()
        if first is None or first.time > time + EXACT:
            raise self._bad("gap", f"no frame can be decoded at {time:g} s")
        return first

    def _begin(self) -> Shown | None:
        """Decode the next key frame."""
        self._frames = trusted(self._decode(), self._time, self._bad, self.max_gap)
        first = next(self._frames, None)
        if first is not None:
            self._origin, self._alone = first.time, True
            self._shown, self._next = first, next(self._frames, None)
        return first

    def _decode(self) -> Iterator[VideoFrame | Problem]:
        """Decode from the next key frame on, without what is shown before it but builds on more."""
        first = None
        try:
            for packet in self._container.demux(self._stream):
                if first is None:
                    first = packet if packet.is_keyframe else None
                if first is None:
                    continue
                check_place(self._container, self._stream, packet, self.path)
                if packet.pts is None or first.pts is None or packet.pts >= first.pts:
                    yield from self._decode_packet(packet)
        except av.FFmpegError as error:
            raise self._bad("damaged", f"the file cannot be read on ({error.strerror})") from error

    def _decode_packet(self, packet: "av.Packet[VideoStream]") -> Iterator[VideoFrame | Problem]:
        place = packet.pts if packet.pts is not None else packet.dts
        at = "" if place is None else f" at {(place - self._start) * self._tick:g} s"
        if packet.is_corrupt:
            yield Problem(self._bad("damaged", f"the file is damaged{at}"), place)
            return
        before, frames, cause = len(self._heard), [], ""
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            cause = error.strerror or str(error)
        causes = [what.strip() for level, _, what in self._heard[before:] if level <= ERROR]
        if cause or causes:
            cause = (causes or [cause])[-1]
            yield Problem(self._bad("damaged", f"it cannot be decoded{at} ({cause})"), place)
        yield from frames

    def _lose(self) -> None:
        """Forget where decoding stands; the next call seeks."""
        self._frames, self._shown, self._next = iter(()), None, None

    def _time(self, ticks: int) -> float:
        return (ticks - self._start) * self._tick

    def _after_the_end(self, time: float, last: Shown) -> BadVideoError:
        end = f"its last frame is at {last.time:g} s"
        if self.seconds is not None and time < self.seconds - self.interval:
            return self._bad("truncated", f"it says that it lasts {self.seconds:g} s, but {end}")
        return self._bad("outside", f"no frame at {time:g} s: {end}")

    def _bad(self, reason: str, what: str) -> BadVideoError:
        return BadVideoError(reason, f"{self.path}: {what}")


def _rgb(frame: VideoFrame) -> UInt8[Tensor, "3 height width"]:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
