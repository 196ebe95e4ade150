"""Frames of one recording at the times asked for: what a viewer would see then, or an error."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Self

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from atcon.data.images import resize
from atcon.data.trust import EXACT, Problem, Shown, trusted
from atcon.errors import BadVideoError, InputError

CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg,mxf,gif,nut"
"""Files of one recording; a play list could lead to other files and to the network."""

MAX_GAP = 0.25
"""Seconds that a frame of a recording of varying rate may be shown."""

_LOST = 1.5  # frames: a longer step in a recording of constant rate is a lost frame
_PROBED = 300  # frames that tell whether the rate is constant
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
        self._container = _opened(self.path)
        try:
            self._stream = _video_stream(self._container, self.path)
        except BaseException:
            self._container.close()
            raise
        stream = self._stream
        self._tick = float(stream.time_base or 0) or 1.0
        self._start = stream.start_time or 0
        self.seconds = _declared_seconds(self._container, stream)
        steps = _steps(self._container, stream)
        positive = steps[steps > 0]
        self.interval = float(np.median(positive if len(positive) else [_mean_step(stream)]))
        default = _LOST * self.interval if _is_constant(steps, self.interval) else MAX_GAP
        self.max_gap = default if max_gap is None else max_gap
        self._frames: Iterator[Shown] = iter(())
        self._shown: Shown | None = None
        self._next: Shown | None = None
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
        if shown.doubt is not None:
            raise shown.doubt
        age = time - shown.time
        if self._next is None and age > max(shown.seconds, self.interval) + EXACT:
            raise self._after_the_end(time, shown)
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
        self._container = _opened(self.path)
        self._stream = _video_stream(self._container, self.path)
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
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            cause = f"it cannot be decoded{at} ({error.strerror})"
            yield Problem(self._bad("damaged", cause), place)
            return
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


def _opened(path: Path) -> InputContainer:
    if not path.is_file():
        raise BadVideoError("missing", f"{path}: no such file")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", container_options=options)
    except av.FFmpegError as error:
        raise BadVideoError(
            "unreadable", f"{path}: not a whole recording in a known format ({error.strerror})"
        ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Give the first stream of moving pictures, to be decoded on one thread and to the letter."""
    streams = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not streams:
        raise BadVideoError("codec", f"{path}: no video in a known format")
    stream = streams[0]
    if stream.codec_context is None:
        raise BadVideoError("codec", f"{path}: its video codec is not known here")
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def _steps(container: InputContainer, stream: VideoStream) -> np.ndarray:
    """Give the seconds between the first frames, from their time stamps alone."""
    places: list[int] = []
    with suppress(av.FFmpegError):  # what is damaged is said where it is needed
        packets = islice(container.demux(stream), _PROBED)
        places.extend(packet.pts for packet in packets if packet.pts is not None)
    return np.diff(np.sort(places)) * float(stream.time_base or 0)


def _mean_step(stream: VideoStream) -> float:
    return 1 / float(stream.average_rate or stream.guessed_rate or 25)


def _is_constant(steps: np.ndarray, interval: float) -> bool:
    """Tell whether nearly all steps are one interval, or several where frames are lost."""
    beats = steps / interval
    return bool((np.abs(beats - np.round(beats)) < 0.25).mean() > 0.95) if len(steps) else False


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _rgb(frame: VideoFrame) -> UInt8[Tensor, "3 height width"]:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
