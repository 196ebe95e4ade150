"""The gallery: each drawn test image with its maps before and after, as small inline pictures."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from atcon.report.formats import Estimate, ends, plain
from atcon.report.inputs import STAGES, Record, Run, dig, dig_list, dig_number
from atcon.report.maps import (
    Bounds,
    Kind,
    Pixels,
    image_of,
    kinds_of,
    maps_of,
    paint,
    read_arrays,
    sample_of,
    strip,
)

INPUT_SIDE, MAP_SIDE, QUALITY = 320, 224, 80


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
    kinds = kinds_of(run.gallery)
    return [_card(run, entry, order, classes, kinds) for order, entry in enumerate(entries)]


def _card(
    run: Run, entry: Record, order: int, classes: Sequence[str], kinds: Sequence[Kind]
) -> Card:
    name = str(dig(entry, "name"))
    path = run.folder / "gallery" / Path(str(dig(entry, "file"))).name
    arrays = read_arrays(path)
    image = image_of(path, arrays)
    labels = tuple(str(label) for label in dig_list(entry, "labels"))
    before, after = (
        _stage(
            entry, stage, image, maps_of(path, dig(entry, "stages", stage), stage, arrays, kinds)
        )
        for stage in ("supervised", "consistency")
    )
    return Card(
        order=order,
        name=name,
        labels=labels,
        labelled=tuple(index for index, label in enumerate(classes) if label in labels),
        picture=_picture(image, INPUT_SIDE, f"Test {sample_of(image)} {name}"),
        frames=tuple(_frame(box) for box in dig_list(entry, "boxes")),
        before=before,
        after=after,
        change=_change(before, after, "correlation", 3),
        iou_change=_change(before, after, "iou", 1),
    )


def _change(before: StageView | None, after: StageView | None, key: str, digits: int) -> Estimate:
    start, end = (getattr(view, key).value if view else None for view in (before, after))
    return plain(None if start is None or end is None else end - start, digits, signed=True)


def _frame(box: Record) -> Frame:
    left, top, right, bottom = (
        100 * (dig_number(box, side) or 0.0) for side in ("left", "top", "right", "bottom")
    )
    return Frame(str(dig(box, "label")), left, top, right - left, bottom - top)


def _stage(
    entry: Record, stage: str, image: Pixels, maps: Iterable[tuple[Kind, Pixels, Bounds]]
) -> StageView | None:
    record = dig(entry, "stages", stage)
    if record is None:
        return None
    title = STAGES[stage]
    about = f"{title.lower()}, test {sample_of(image)} {dig(entry, 'name')}"
    pictures = tuple(render(kind, image, array, bounds, about) for kind, array, bounds in maps)
    correct = dig(record, "correct")
    return StageView(
        title=title,
        pictures=pictures,
        predictions=_predictions(record, [str(x) for x in dig_list(entry, "labels")]),
        correct=None if correct is None else bool(correct),
        correlation=plain(dig_number(record, "correlation"), 3),
        iou=plain(dig_number(record, "iou")),
    )


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


def render(kind: Kind, image: Pixels, array: Pixels, bounds: Bounds, about: str) -> Picture:
    """Draw one map as an inline picture with its scale."""
    pixels, (low, high) = paint(kind, image, array, bounds)
    said = f"{kind.title} {about}"
    return _picture(pixels, MAP_SIDE, said, kind.title, kind.name, _ramp(low, high))


def _ramp(low: float, high: float) -> Ramp:
    zero = 100 * -low / (high - low) if low < 0 < high else None
    return Ramp(*ends(low, high), zero)


def _picture(
    pixels: Pixels, side: int, alt: str, title: str = "", kind: str = "", ramp: Ramp | None = None
) -> Picture:
    """Encode an image, or a strip of a clip, as a JPEG of at most `side`, never enlarged.

    A strip may have twice the width: it holds several frames.
    """
    image = Image.fromarray(strip(pixels))
    image.thumbnail((side * (pixels.ndim - 2), side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(source, alt, image.width, image.height, title, kind, ramp)
