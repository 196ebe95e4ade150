"""The recorded maps of an image, read and checked, and painted for the eye."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atcon.errors import InputError
from atcon.report.inputs import Record, dig, number

Pixels = NDArray[np.uint8]
Fractions = NDArray[np.float64]
Bounds = tuple[float, float]
"""The values that the bytes 0 and 255 of a map stand for."""

MEAN_COLOUR = (124.0, 116.0, 104.0)
"""What zero is in ImageNet's normalised space: where a mask of 0 sends a pixel."""
TITLES = {
    "grad_cam": "Grad-CAM",
    "guided_backprop": "Guided Backpropagation",
    "mask": "Seen through the mask",
}
COLOURS = {"grad_cam": "viridis", "guided_backprop": "inferno"}


def read_arrays(path: Path) -> dict[str, Pixels]:
    """Read the arrays of one entry."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise InputError(f"{path}: missing, but the gallery's index names it") from None
    except (OSError, EOFError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a readable gallery file ({error})") from error


def image_of(path: Path, arrays: Mapping[str, Pixels]) -> Pixels:
    """Give the photograph among the arrays of `path`."""
    image = arrays.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{path}: 'image' is missing or is not a uint8 array of H x W x 3")
    return image


def maps_of(
    path: Path, record: Record, stage: str, arrays: Mapping[str, Pixels]
) -> Iterator[tuple[str, Pixels, Bounds]]:
    """Give kind, bytes and bounds of each map that a stage has."""
    for kind in TITLES:
        array = arrays.get(f"{stage}_{kind}")
        if array is not None:
            bounds = _bounds(path, dig(record, "ranges", kind), kind)
            if array.dtype != np.uint8 or array.ndim != 2:
                raise InputError(f"{path}: '{stage}_{kind}' is not a uint8 array of H x W")
            yield kind, array, bounds


def _bounds(path: Path, bounds: Any, kind: str) -> Bounds:
    if isinstance(bounds, list) and len(bounds) == 2:
        low, high = (number(end, f"{path}, range of {kind}") for end in bounds)
        if low is not None and high is not None and low <= high:
            return low, high
    raise InputError(f"{path}: the index gives no range [low, high] for {kind}, but {bounds!r}")


def paint(kind: str, image: Pixels, array: Pixels, bounds: Bounds) -> tuple[Pixels, Bounds]:
    """Draw one map for the eye; give its pixels and the values at the ends of its colours.

    Grad-CAM is signed and shown from its lowest to its highest value over the grey photograph;
    Guided Backpropagation as magnitude, the brightest 1 % clipped; the mask by what it leaves of
    the image, since its own scale from 0 to 1 is absolute.
    """
    low, high = bounds
    if kind == "grad_cam":
        return _overlay(image, _resized(array, image.shape[:2])), bounds
    if kind == "guided_backprop":
        top = max(float(np.percentile(array, 99)), 1.0)
        pixels = coloured(kind, np.minimum(array / top, 1.0))
        return pixels, (low, low + (high - low) * top / 255)
    return _masked(image, low + (high - low) * _resized(array, image.shape[:2])), bounds


def coloured(kind: str, fractions: Fractions) -> Pixels:
    """Give the colours of a map's values, as fractions of its range."""
    pixels: Pixels = mpl.colormaps[COLOURS[kind]](fractions, bytes=True)[..., :3]
    return pixels


def _resized(array: Pixels, shape: tuple[int, ...]) -> Fractions:
    """Return a map as fractions of its range, at the size of the image."""
    fractions = Image.fromarray(array.astype(np.float32) / 255)
    return np.asarray(fractions.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), float)


def _overlay(image: Pixels, fractions: Fractions) -> Pixels:
    grey = np.asarray(Image.fromarray(image).convert("L"), float)[..., None]
    return _bytes(0.38 * grey + 0.62 * coloured("grad_cam", fractions))


def _bytes(mixed: Fractions) -> Pixels:
    return np.round(mixed).astype(np.uint8)


def _masked(image: Pixels, mask: Fractions) -> Pixels:
    share = np.clip(mask, 0.0, 1.0)[..., None]
    return _bytes(share * image + (1 - share) * np.array(MEAN_COLOUR))
