"""Galleries as in figures 1 and 2: each image with its maps before and after, and what was said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Rectangle

from atcon.report.drawing import Place, new_sheet, shortened, wrapped
from atcon.report.formats import UNDEFINED, decimal
from atcon.report.inputs import STAGES, Record, Run, dig, dig_list, dig_number
from atcon.report.maps import Kind, Pixels, image_of, kinds_of, maps_of, paint, read_arrays, strip
from atcon.report.style import Look, look_of

WIDTH, MARGIN, GAP, LINE = 720, 6, 6, 12
"""Of a sheet over two columns of a paper (7 inches), in units of our charts."""
HEAD, SPACE = 32, 10
"""The height of the titles above, and the space below an image."""
IMAGES = 4
"""How many images a sheet shows."""
SHOWN = ("supervised", "consistency")
_BOX = "#ffd54a"
_TEXT = 10.0


@dataclass(frozen=True)
class _Row:
    """An image: its pictures from left to right, empty where there is none, and its words."""

    pictures: tuple[Pixels | None, ...]
    labels: Sequence[str]
    boxes: Sequence[Record]
    said: tuple[tuple[str, ...], ...]


def gallery_sheets(run: Run) -> Iterator[Sheet]:
    """Draw the entries of a run's gallery in their order, without their names.

    Raises:
        InputError: An entry's arrays are missing, unreadable or not of the recorded kind.
    """
    kinds = [kind for kind in kinds_of(run.gallery) if kind.colours]
    entries = dig_list(run.gallery, "entries")
    for first in range(0, len(entries), IMAGES):
        some = entries[first : first + IMAGES]
        yield _sheet([_row(run, entry, kinds) for entry in some], kinds)


def _row(run: Run, entry: Record, kinds: Sequence[Kind]) -> _Row:
    path = run.folder / "gallery" / Path(str(dig(entry, "file"))).name
    arrays = read_arrays(path)
    image = image_of(path, arrays)
    pictures: list[Pixels | None] = [strip(image)]
    for stage in SHOWN:
        record = dig(entry, "stages", stage)
        maps = maps_of(path, record, stage, arrays, kinds) if record else ()
        painted = {kind: strip(paint(kind, image, map_, ends)[0]) for kind, map_, ends in maps}
        pictures += [painted.get(kind) for kind in kinds]
    labels = [str(label) for label in dig_list(entry, "labels")]
    said = tuple(_said(dig(entry, "stages", stage)) for stage in SHOWN)
    return _Row(tuple(pictures), labels, dig_list(entry, "boxes"), said)


def _said(record: Record | None) -> tuple[str, ...]:
    """Say what the network predicts, whether its first choice is right, and how maps agree."""
    if record is None:
        return ()
    predicted = ", ".join(map(str, dig_list(record, "predicted"))) or UNDEFINED
    top, right = str(dig(record, "top")), dig(record, "correct")
    share = dig_number(record, "probabilities", top)
    verdict = "" if right is None else ", right" if right else ", wrong"
    percent = "" if share is None else f" {100 * share:.0f} %"
    agree = decimal(dig_number(record, "correlation"), 2)
    return f"Predicted: {predicted}", f"First: {top}{percent}{verdict}", f"Consistency: {agree}"


def _sheet(rows: Sequence[_Row], kinds: Sequence[Kind]) -> Sheet:
    columns = 1 + len(SHOWN) * len(kinds)
    side = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    heights = [
        max(_fitted(one, side)[1] for one in row.pictures if one is not None) for row in rows
    ]
    below = 3 * LINE + SPACE
    place = new_sheet(WIDTH, MARGIN + HEAD + sum(heights) + below * len(rows))
    _titles(place, kinds, side)
    top = float(MARGIN + HEAD)
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row.pictures):
            if picture is not None:
                corner = MARGIN + column * (side + GAP), top
                _picture(place, picture, corner, side, row.boxes if column == 0 else ())
        _words(place, row, len(kinds), side, top + height)
        top += height + below
    return place.sheet


def _fitted(pixels: Pixels, side: float) -> tuple[float, float]:
    """Give width and height of a picture that fits into a square."""
    scale = side / max(pixels.shape[:2])
    return pixels.shape[1] * scale, pixels.shape[0] * scale


def _titles(place: Place, kinds: Sequence[Kind], side: float) -> None:
    strong: Look = {**look_of("text", "value"), "font-size": f"{_TEXT}px"}
    quiet = look_of("text", "tick")
    place.write("Input", MARGIN, MARGIN + 24, quiet)
    for number, stage in enumerate(SHOWN):
        for at, kind in enumerate(kinds):
            x = MARGIN + (1 + number * len(kinds) + at) * (side + GAP)
            place.write(shortened(kind.title, _TEXT, side), x, MARGIN + 24, quiet)
            if at == 0:
                place.write(STAGES[stage], x, MARGIN + 10, strong)


def _picture(
    place: Place, pixels: Pixels, corner: tuple[float, float], side: float, boxes: Sequence[Record]
) -> None:
    """Show a picture, and the boxes of its objects, in the middle of its column."""
    wide, high = _fitted(pixels, side)
    left, top = corner[0] + (side - wide) / 2, corner[1]
    place.show(pixels, (left, top, wide, high))
    for box in boxes:
        x0, y0, x1, y1 = (dig_number(box, end) or 0.0 for end in ("left", "top", "right", "bottom"))
        for colour, thick in (("black", 1.6), (_BOX, 1.0)):
            size = (x1 - x0) * wide, (y1 - y0) * high
            at = left + x0 * wide, top + y0 * high
            frame = Rectangle(at, *size, fill=False, edgecolor=colour, linewidth=thick)
            place.axes.add_patch(frame)


def _words(place: Place, row: _Row, kinds: int, side: float, top: float) -> None:
    look = look_of("text", "head")
    truth = wrapped(f"Truth: {', '.join(row.labels) or 'none'}", _TEXT, side)[:3]
    blocks = [(0, side, truth)]
    room = kinds * (side + GAP) - GAP
    blocks += [(1 + at * kinds, room, [*said]) for at, said in enumerate(row.said)]
    for column, wide, lines in blocks:
        for number, line in enumerate(lines):
            x, y = MARGIN + column * (side + GAP), top + LINE * (number + 1)
            place.write(shortened(line, _TEXT, wide), x, y, look)
