"""A recording's file: opened without being led elsewhere, and what it says of itself."""

from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from atcon.data.tables import is_there
from atcon.errors import BadVideoError

CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg,mxf,gif,nut"
"""Files of one recording; a play list could lead to other files and to the network."""

_PROBED = 300  # frames that tell whether the rate is constant
_AVI_HEAD = 8  # bytes before the data of a chunk


def opened(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a recording and its first stream of moving pictures, to be decoded to the letter.

    Raises:
        BadVideoError: There is no such file, it is no recording, or its codec is unknown.
    """
    if not is_there(path):
        raise BadVideoError("missing", f"{path}: no such file")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise BadVideoError(
            "unreadable", f"{path}: not a whole recording in a known format ({error.strerror})"
        ) from error
    try:
        stream = _video_stream(container, path)
        _check_index(container, stream, path)
    except BaseException:
        container.close()
        raise
    return container, stream


def declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Give how long the file says that it lasts; None where it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def pace(container: InputContainer, stream: VideoStream) -> tuple[float, bool]:
    """Give the usual step from frame to frame, in seconds, and whether it is constant.

    Constant: nearly all of the first steps are one such step, or several where frames are lost.
    This reads the file from where it stands.
    """
    places: list[int] = []
    with suppress(av.FFmpegError):  # what is damaged is said where it is needed
        packets = islice(container.demux(stream), _PROBED)
        places.extend(packet.pts for packet in packets if packet.pts is not None)
    steps = np.diff(np.sort(places)) * float(stream.time_base or 0)
    if not (steps > 0).any():
        return 1 / float(stream.average_rate or stream.guessed_rate or 25), False
    usual = float(np.median(steps[steps > 0]))
    beats = steps / usual
    return usual, bool((np.abs(beats - np.round(beats)) < 0.25).mean() > 0.95)


def check_place(
    container: InputContainer, stream: VideoStream, packet: "av.Packet[VideoStream]", path: Path
) -> None:
    """Hold a file without time stamps to its index: a lost frame would shift all later ones.

    Raises:
        BadVideoError: The packet is not where the index has a frame of its number.
    """
    if container.format.name != "avi" or packet.dts is None or not packet.size:
        return
    index = stream.index_entries
    entry = index.search_timestamp(packet.dts, any_frame=True)
    if entry >= 0 and index[entry].pos + _AVI_HEAD != packet.pos:
        what = f"its frames and its index disagree at frame {packet.dts}"
        raise BadVideoError("damaged", f"{path}: {what}")


def _check_index(container: InputContainer, stream: VideoStream, path: Path) -> None:
    """Refuse a file without time stamps whose index is lost or has holes, for the same reason."""
    if container.format.name != "avi":
        return
    said, indexed = stream.frames, len(stream.index_entries)
    if indexed < max(said, 1):
        what = f"it has {said or 'no known number of'} frames, but {indexed} in its index"
        raise BadVideoError("damaged", f"{path}: {what}")


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not streams:
        raise BadVideoError("codec", f"{path}: no video in a known format")
    stream = streams[0]
    if stream.codec_context is None:
        raise BadVideoError("codec", f"{path}: its video codec is not known here")
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
    return stream
