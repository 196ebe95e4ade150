"""Films: one MP4 for each clip and stage of a folder, the clip beside its maps laid over it."""

from collections.abc import Sequence
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atcon.errors import InputError
from atcon.records import read_json, whole_file
from atcon.report.inputs import Record, dig, dig_list, dig_number
from atcon.report.maps import Kind, Pixels, image_of, kinds_of, maps_of, paint, read_arrays

SIDE, GAP = 240, 8
"""Of a picture, and between pictures, in pixels; both even, as H.264 wants."""
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox")
"""Of H.264, which browsers play; the first that PyAV has is taken."""
USUAL_RATE = 4.0
"""Frames per second where the index gives none."""


def write_films(folder: Path) -> list[Path]:
    """Write the MP4s of the clips of a folder in the gallery's format; images have none.

    Returns:
        The films, in the order of the index and of its stages.

    Raises:
        InputError: The index or an entry's arrays are missing or not of the recorded kind, or this
            installation of PyAV cannot write H.264.
    """
    index = read_json(folder / "index.json")
    kinds, films = kinds_of(index), []
    for entry in dig_list(index, "entries"):
        for stage in (str(one) for one in dig_list(index, "stages")):
            if dig(entry, "stages", stage) is not None:
                films += _films(folder, entry, stage, kinds)
    return films


def _films(folder: Path, entry: Record, stage: str, kinds: Sequence[Kind]) -> list[Path]:
    path = folder / Path(str(dig(entry, "file"))).name
    arrays = read_arrays(path)
    clip = image_of(path, arrays)
    if clip.ndim == 3:
        return []
    drawn = [clip]
    for kind, array, bounds in maps_of(path, dig(entry, "stages", stage), stage, arrays, kinds):
        drawn.append(paint(kind, clip, array, bounds)[0])
    target = path.with_name(f"{path.stem}-{stage}.mp4")
    rate = dig_number(entry, "rate") or USUAL_RATE
    with whole_file(target) as part:
        _encode(part, _beside(drawn), rate)
    return [target]


def _beside(clips: Sequence[Pixels]) -> Pixels:
    """Lay clips of one length side by side, each SIDE by SIDE."""
    frames = len(clips[0])
    width = len(clips) * (SIDE + GAP) - GAP
    film = np.full((frames, SIDE, width + width % 2, 3), 255, np.uint8)
    for place, clip in enumerate(clips):
        left = place * (SIDE + GAP)
        for number, frame in enumerate(clip):
            picture = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            film[number, :, left : left + SIDE] = np.asarray(picture)
    return film


def _encode(path: Path, film: Pixels, rate: float) -> None:
    """Write H.264 that any browser plays, without any metadata of the source."""
    av: Any = import_module("av")  # heavy, and needed for clips only
    encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise InputError("films need H.264, which this installation of PyAV cannot write")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = *film.shape[1:3], "yuv420p"
        for frame in film:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
