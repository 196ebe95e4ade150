"""The gallery: each drawn test image with its maps before and after, as small inline pictures."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atcon.errors import InputError
from atcon.report.formats import Estimate, ends, plain
from atcon.report.inputs import STAGES, Record, Run, dig, dig_list, dig_number, number

Pixels = NDArray[np.uint8]
Fractions = NDArray[np.float64]

INPUT_SIDE, MAP_SIDE, QUALITY = 320, 224, 80
MEAN_COLOUR = (124.0, 116.0, 104.0)
"""What zero is in ImageNet's normalised space: where a mask of 0 sends a pixel."""
TITLES = {
    "grad_cam": "Grad-CAM",
    "guided_backprop": "Guided Backpropagation",
    "mask": "Seen through the mask",
}


@dataclass(frozen=True)
class Ramp:
    """The scale of a map: its two ends as text, and where zero lies between them in percent."""

    low: str
    high: str
    zero: float | None


@dataclass(frozen=True)
class Picture:
    """One inline picture with its alternative text; a map also has its scale."""

    source: str
    alt: str
    width: int
    height: int
    title: str = ""
    kind: str = ""
    ramp: Ramp | None = None


@dataclass(frozen=True)
class Prediction:
    """One class's probability; `true` if the class is among the labels, `top` if it leads."""

    name: str
    percent: float
    text: str
    true: bool
    top: bool


@dataclass(frozen=True)
class StageView:
    """One image under one stage."""

    title: str
    pictures: tuple[Picture, ...]
    predictions: tuple[Prediction, ...]
    correct: bool | None
    correlation: Estimate
    iou: Estimate


@dataclass(frozen=True)
class Frame:
    """A box in percent of the image, with the name of its object."""

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Card:
    """One image of the gallery; `labelled` are indices into the gallery's classes."""

    order: int
    name: str
    labels: tuple[str, ...]
    labelled: tuple[int, ...]
    picture: Picture
    frames: tuple[Frame, ...]
    before: StageView | None
    after: StageView | None
    change: Estimate
    iou_change: Estimate

    @property
    def data(self) -> dict[str, str]:
        """What the page sorts and filters by, as data attributes; empty where not defined."""
        before, after = self.before, self.after
        values = {
            "order": self.order,
            "name": self.name,
            "classes": " ".join(map(str, self.labelled)),
            "before": before and before.correlation.value,
            "after": after and after.correlation.value,
            "change": self.change.value,
            "iou": self.iou_change.value,
            "was": None if before is None or before.correct is None else int(before.correct),
            "now": None if after is None or after.correct is None else int(after.correct),
        }
        return {f"data-{key}": "" if value is None else str(value) for key, value in values.items()}


def cards(run: Run) -> list[Card]:
    """Render the entries of the gallery in the order in which they were drawn.

    Raises:
        InputError: An entry's arrays are missing, unreadable or not of the recorded kind.
    """
    entries = dig_list(run.gallery, "entries")
    classes = [str(name) for name in dig_list(run.summary, "classes")]
    return [_card(run, entry, order, classes) for order, entry in enumerate(entries)]


def _card(run: Run, entry: Record, order: int, classes: Sequence[str]) -> Card:
    name = str(dig(entry, "name"))
    path = run.folder / "gallery" / Path(str(dig(entry, "file"))).name
    arrays = read_arrays(path)
    image = _image(path, arrays)
    labels = tuple(str(label) for label in dig_list(entry, "labels"))
    before, after = (
        _stage(path, entry, stage, image, arrays) for stage in ("supervised", "consistency")
    )
    return Card(
        order=order,
        name=name,
        labels=labels,
        labelled=tuple(index for index, label in enumerate(classes) if label in labels),
        picture=_picture(image, INPUT_SIDE, f"Test image {name}"),
        frames=tuple(_frame(box) for box in dig_list(entry, "boxes")),
        before=before,
        after=after,
        change=_change(before, after, "correlation", 3),
        iou_change=_change(before, after, "iou", 1),
    )


def read_arrays(path: Path) -> dict[str, Pixels]:
    """Read the arrays of one entry."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise InputError(f"{path}: missing, but the gallery's index names it") from None
    except (OSError, EOFError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a readable gallery file ({error})") from error


def _image(path: Path, arrays: Mapping[str, Pixels]) -> Pixels:
    image = arrays.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{path}: 'image' is missing or is not a uint8 array of H x W x 3")
    return image


def _change(before: StageView | None, after: StageView | None, key: str, digits: int) -> Estimate:
    start, end = (getattr(view, key).value if view else None for view in (before, after))
    return plain(None if start is None or end is None else end - start, digits, signed=True)


def _frame(box: Record) -> Frame:
    left, top, right, bottom = (
        100 * (dig_number(box, side) or 0.0) for side in ("left", "top", "right", "bottom")
    )
    return Frame(str(dig(box, "label")), left, top, right - left, bottom - top)


def _stage(
    path: Path, entry: Record, stage: str, image: Pixels, arrays: Mapping[str, Pixels]
) -> StageView | None:
    record = dig(entry, "stages", stage)
    if record is None:
        return None
    title = STAGES[stage]
    about = f"{title.lower()}, test image {dig(entry, 'name')}"
    pictures = []
    for kind in TITLES:
        array = arrays.get(f"{stage}_{kind}")
        if array is not None:
            bounds = _range(path, dig(record, "ranges", kind), kind)
            if array.dtype != np.uint8 or array.ndim != 2:
                raise InputError(f"{path}: '{stage}_{kind}' is not a uint8 array of H x W")
            pictures.append(render(kind, image, array, bounds, about))
    correct = dig(record, "correct")
    return StageView(
        title=title,
        pictures=tuple(pictures),
        predictions=_predictions(record, [str(x) for x in dig_list(entry, "labels")]),
        correct=None if correct is None else bool(correct),
        correlation=plain(dig_number(record, "correlation"), 3),
        iou=plain(dig_number(record, "iou")),
    )


def _range(path: Path, bounds: Any, kind: str) -> tuple[float, float]:
    if isinstance(bounds, list) and len(bounds) == 2:
        low, high = (number(end, f"{path}, range of {kind}") for end in bounds)
        if low is not None and high is not None and low <= high:
            return low, high
    raise InputError(f"{path}: the index gives no range [low, high] for {kind}, but {bounds!r}")


def _predictions(record: Record, labels: Sequence[str]) -> tuple[Prediction, ...]:
    """Return the three most probable classes and whatever else is predicted or true."""
    table = dig(record, "probabilities") or {}
    known = [(str(name), dig_number(table, name)) for name in table]
    ranked = sorted(((name, p) for name, p in known if p is not None), key=lambda item: -item[1])
    said = {*map(str, dig_list(record, "predicted")), *labels}
    return tuple(
        Prediction(name, 100 * p, f"{100 * p:.0f} %", name in labels, name == dig(record, "top"))
        for rank, (name, p) in enumerate(ranked)
        if rank < 3 or name in said
    )


def render(
    kind: str, image: Pixels, array: Pixels, bounds: tuple[float, float], about: str
) -> Picture:
    """Draw one map for the eye.

    Grad-CAM is signed and shown from its lowest to its highest value over the grey photograph;
    Guided Backpropagation as magnitude, the brightest 1 % clipped; the mask by what it leaves of
    the image, since its own scale from 0 to 1 is absolute.
    """
    low, high = bounds
    if kind == "grad_cam":
        pixels = _overlay(image, _resized(array, image.shape[:2]))
    elif kind == "guided_backprop":
        top = max(float(np.percentile(array, 99)), 1.0)
        pixels = _coloured("inferno", np.minimum(array / top, 1.0))
        high = low + (high - low) * top / 255
    else:
        pixels = _masked(image, low + (high - low) * _resized(array, image.shape[:2]))
    return _picture(
        pixels, MAP_SIDE, f"{TITLES[kind]} {about}", TITLES[kind], kind, _ramp(low, high)
    )


def _resized(array: Pixels, shape: tuple[int, ...]) -> Fractions:
    """Return a map as fractions of its range, at the size of the image."""
    fractions = Image.fromarray(array.astype(np.float32) / 255)
    return np.asarray(fractions.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), float)


def _coloured(name: str, fractions: Fractions) -> Pixels:
    pixels: Pixels = mpl.colormaps[name](fractions, bytes=True)[..., :3]
    return pixels


def _overlay(image: Pixels, fractions: Fractions) -> Pixels:
    grey = np.asarray(Image.fromarray(image).convert("L"), float)[..., None]
    return _bytes(0.38 * grey + 0.62 * _coloured("viridis", fractions))


def _bytes(mixed: Fractions) -> Pixels:
    return np.round(mixed).astype(np.uint8)


def _masked(image: Pixels, mask: Fractions) -> Pixels:
    share = np.clip(mask, 0.0, 1.0)[..., None]
    return _bytes(share * image + (1 - share) * np.array(MEAN_COLOUR))


def _ramp(low: float, high: float) -> Ramp:
    zero = 100 * -low / (high - low) if low < 0 < high else None
    return Ramp(*ends(low, high), zero)


def _picture(
    pixels: Pixels, side: int, alt: str, title: str = "", kind: str = "", ramp: Ramp | None = None
) -> Picture:
    """Encode pixels as a JPEG of at most `side`, never enlarged."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(source, alt, image.width, image.height, title, kind, ramp)
