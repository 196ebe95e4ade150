"""The recorded maps of an image, read and checked, and painted for the eye."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atcon.errors import InputError
from atcon.report.inputs import Record, dig, dig_list, number

Pixels = NDArray[np.uint8]
Fractions = NDArray[np.float64]
Bounds = tuple[float, float]
"""The values that the bytes 0 and 255 of a map stand for."""

STRIP, STRIP_COLUMNS = 8, 4
"""How many frames of a clip a picture shows at most, and how many in a line."""
MEAN_COLOUR = (124.0, 116.0, 104.0)
"""What zero is in ImageNet's normalised space: where a mask of 0 sends a pixel."""
_MOST = 2**30  # bytes of the arrays of one image or clip; more are a bomb
_SIGNED, _OVERLAID, _ALONE = "RdBu_r", "viridis", "inferno"


@dataclass(frozen=True)
class Kind:
    """What the index says about a map: how it is called and drawn.

    Attributes:
        name: The key of its arrays and ranges.
        title: Its name in print.
        signed: Whether 0 is its middle, and what lies below is evidence against the class.
        fine: Whether every pixel has a value of its own: then it is drawn alone, else over the
            photograph.
    """

    name: str
    title: str
    signed: bool = False
    fine: bool = False

    @property
    def colours(self) -> str:
        """Its colour map; empty for the mask, which is shown by what it leaves of the image."""
        if self.name == "mask":
            return ""
        return _SIGNED if self.signed else _ALONE if self.fine else _OVERLAID


_FORMERLY = (
    Kind("grad_cam", "Grad-CAM", signed=True),
    Kind("guided_backprop", "Guided Backpropagation", fine=True),
    Kind("mask", "Seen through the mask"),
)
"""What an index had before it said so itself."""


def kinds_of(index: Record) -> tuple[Kind, ...]:
    """Give the maps that an index names, in its order."""
    about = dig(index, "about")
    if about is None:
        return _FORMERLY
    return tuple(
        Kind(
            str(name),
            str(dig(about, name, "title") or name),
            signed=dig(about, name, "signed") is True,
            fine=dig(about, name, "fine") is True,
        )
        for name in dig_list(index, "maps")
    )


def read_arrays(path: Path) -> dict[str, Pixels]:
    """Read the arrays of one entry."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            _check_size(sum(part.file_size for part in arrays.zip.infolist()))
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise InputError(f"{path}: missing, but the gallery's index names it") from None
    except Exception as error:  # readers of broken files raise anything
        raise InputError(f"{path}: not a readable gallery file ({error})") from error


def _check_size(size: int) -> None:
    if size > _MOST:
        raise ValueError(f"its arrays of {size:,} bytes exceed the limit of {_MOST:,}")


def sample_of(pixels: Pixels) -> str:
    """Say what pixels are of: an image, or a clip."""
    return "image" if pixels.ndim == 3 else "clip"


def image_of(path: Path, arrays: Mapping[str, Pixels]) -> Pixels:
    """Give the photograph, or the clip, among the arrays of `path`."""
    image = arrays.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise InputError(
            f"{path}: 'image' is missing or is not a uint8 array of H x W x 3, or T x H x W x 3"
        )
    return image


def maps_of(
    path: Path, record: Record, stage: str, arrays: Mapping[str, Pixels], kinds: Sequence[Kind]
) -> Iterator[tuple[Kind, Pixels, Bounds]]:
    """Give kind, bytes and bounds of each map that a stage has."""
    for kind in kinds:
        name = f"{stage}_{kind.name}"
        array = arrays.get(name)
        if array is not None:
            bounds = _bounds(path, dig(record, "ranges", kind.name), kind.name)
            axes = arrays["image"].ndim - 1
            if array.dtype != np.uint8 or array.ndim != axes:
                shape = "T x H x W" if axes == 3 else "H x W"
                raise InputError(f"{path}: '{name}' is not a uint8 array of {shape}")
            yield kind, array, bounds


def _bounds(path: Path, bounds: Any, kind: str) -> Bounds:
    if isinstance(bounds, list) and len(bounds) == 2:
        low, high = (number(end, f"{path}, range of {kind}") for end in bounds)
        if low is not None and high is not None and low <= high:
            return low, high
    raise InputError(f"{path}: the index gives no range [low, high] for {kind}, but {bounds!r}")


def paint(kind: Kind, image: Pixels, array: Pixels, bounds: Bounds) -> tuple[Pixels, Bounds]:
    """Draw one map for the eye; give its pixels and the values at the ends of its colours.

    A map of coarse cells lies over the grey photograph, a fine one is drawn alone, its largest 1 %
    clipped. Signed values run from blue over white at 0 to red, unsigned ones from the lowest to
    the highest. The mask is shown by what it leaves of the image, since its own scale from 0 to 1
    is absolute. Of a clip all frames are drawn, with one scale: a map of fewer cells in time is
    interpolated linearly between them.
    """
    fractions = array / 255 if kind.fine else _resized(array, image.shape[:-1])
    values = bounds[0] + (bounds[1] - bounds[0]) * fractions
    if not kind.colours:
        return _masked(image, values), bounds
    low, high = shown = _ends(kind, values, bounds)
    pixels = coloured(kind, np.clip((values - low) / (high - low or 1.0), 0.0, 1.0))
    return (pixels if kind.fine else _overlaid(image, pixels)), shown


def _ends(kind: Kind, values: Fractions, bounds: Bounds) -> Bounds:
    """Give the values at the ends of the colours."""
    low, high = bounds
    if kind.signed:
        size = float(np.percentile(abs(values), 99)) if kind.fine else max(abs(low), abs(high))
        return (-size, size) if size else (-1.0, 1.0)
    if kind.fine:
        high = max(float(np.percentile(values, 99)), low + (high - low) / 255)
    return low, high


def coloured(kind: Kind, fractions: Fractions) -> Pixels:
    """Give the colours of a map's values, as fractions of its range."""
    pixels: Pixels = mpl.colormaps[kind.colours](fractions, bytes=True)[..., :3]
    return pixels


def strip(pixels: Pixels) -> Pixels:
    """Lay frames of a clip `[T, H, W, 3]` side by side, in lines to be read; leave an image alone.

    Of a long clip `STRIP` frames are shown, evenly spaced, the first and the last among them.
    """
    if pixels.ndim == 3:
        return pixels
    count = min(STRIP, len(pixels))
    shown = pixels[np.linspace(0, len(pixels) - 1, count).round().astype(int)]
    lines = -(-count // STRIP_COLUMNS)
    columns = -(-count // lines)
    height, width = shown.shape[1:3]
    sheet = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for place, frame in enumerate(shown):
        top, left = (height + 1) * (place // columns), (width + 1) * (place % columns)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def _resized(array: Pixels, shape: tuple[int, ...]) -> Fractions:
    """Return a map as fractions of its range, at the size of the image or the clip."""
    if len(shape) == 3:
        return np.stack([_resized(cells, shape[1:]) for cells in _in_time(array, shape[0])])
    fractions = Image.fromarray(array.astype(np.float32) / 255)
    return np.asarray(fractions.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), float)


def _in_time(array: Pixels, frames: int) -> NDArray[np.float32]:
    """Interpolate a map's cells in time at the middle of each frame."""
    at = np.clip((np.arange(frames) + 0.5) * len(array) / frames - 0.5, 0, len(array) - 1)
    below = np.floor(at).astype(int)
    above, share = np.minimum(below + 1, len(array) - 1), (at - below)[:, None, None]
    return np.asarray((1 - share) * array[below] + share * array[above], np.float32)


def _overlaid(image: Pixels, colours: Pixels) -> Pixels:
    tall = Image.fromarray(image.reshape(-1, *image.shape[-2:]))  # the frames of a clip as one
    grey = np.asarray(tall.convert("L"), float).reshape(*image.shape[:-1], 1)
    return _bytes(0.38 * grey + 0.62 * colours)


def _bytes(mixed: Fractions) -> Pixels:
    return np.round(mixed).astype(np.uint8)


def _masked(image: Pixels, mask: Fractions) -> Pixels:
    share = np.clip(mask, 0.0, 1.0)[..., None]
    return _bytes(share * image + (1 - share) * np.array(MEAN_COLOUR))
