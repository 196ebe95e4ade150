"""Recordings whose frames say which they are: twelve bars for the bits of their number."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

BITS, WIDTH, HEIGHT = 12, 96, 64


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The bars of a number above, and their negative below."""
    bits = [number >> bit & 1 for bit in range(BITS)]
    row = np.repeat(bits, width // BITS).astype(np.uint8) * 200 + 28
    upper = np.tile(row[:, None], (height // 2, 1, 3))
    return np.concatenate([upper, 255 - upper + 1])


def number_of(frame: torch.Tensor) -> int:
    """The number in a frame `[3, height, width]`; -1 where its two halves disagree."""
    grey = frame.float().mean(0)
    height, width = grey.shape
    middles = [round((bit + 0.5) * width / BITS) for bit in range(BITS)]
    upper = [bool(grey[height // 4, x] > 128) for x in middles]
    lower = [bool(grey[3 * height // 4, x] < 128) for x in middles]
    return sum(1 << bit for bit in range(BITS) if upper[bit]) if upper == lower else -1


def numbers(clip: torch.Tensor) -> list[int]:
    """The numbers of a clip's frames."""
    return [number_of(frame) for frame in clip.unbind(1)]


def make_video(
    path: Path,
    seconds: float = 12,
    *,
    rate: int = 25,
    codec: str = "libx264",
    times: Iterable[float] | None = None,
    start: float = 0.0,
    gop: int = 25,
    options: Mapping[str, str] | None = None,
    rotation: int = 0,
    pixel_format: str = "yuv420p",
    tags: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Write a recording; frame k shows k, at k / rate or at the k-th of `times`.

    `tags` go into the metadata of the file and of its track.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = list(times) if times is not None else [k / rate for k in range(round(seconds * rate))]
    base = Fraction(1, 90_000)
    own = {"movflags": "use_metadata_tags"} if tags else {}
    own |= container_options or {}
    with av.open(str(path), "w", container_options=own) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        container.metadata.update(tags or {})
        stream.metadata.update(tags or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.gop_size = gop
        if times is not None or start:
            stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            if times is not None or start:
                frame.pts, frame.time_base = round((start + time) / base), base
            else:
                frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source: Path, target: Path, keep: Callable[[int], bool]) -> Path:
    """Copy the packets, in the order of the file, whose place `keep` says yes to."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copied = writer.add_stream_from_template(stream)
        packets = (packet for packet in reader.demux(stream) if packet.size)
        for place, packet in enumerate(packets):
            if keep(place):
                packet.stream = copied
                writer.mux(packet)
    return target


def write_events(path: Path, rows: Iterable[str], columns: str = "") -> Path:
    """Write a table of events, one `video,patient,start,end,label` a row."""
    head = columns or "video,patient,start,end,label"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def six_patients(folder: Path, video: Path) -> Path:
    """Copy a recording of 20 s for six patients, each with an event of 8 s of class a and of b."""
    (folder / "v").mkdir(parents=True)
    rows = []
    for patient in range(6):
        shutil.copy(video, folder / f"v/{patient}.mp4")
        rows += [f"v/{patient}.mp4,p{patient},{9 * k},{9 * k + 8},{'ab'[k]}" for k in range(2)]
    write_events(folder / "events.csv", rows)
    return folder
