"""Sheets: one PNG per image, with a row of pictures per stage; what `atcon attend` shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atcon.errors import InputError
from atcon.plain_text import printable
from atcon.records import read_json, whole_file
from atcon.report.formats import UNDEFINED, decimal, ends
from atcon.report.inputs import STAGES, Record, dig, dig_list, dig_number
from atcon.report.maps import (
    Bounds,
    Kind,
    Pixels,
    coloured,
    image_of,
    kinds_of,
    maps_of,
    paint,
    read_arrays,
    strip,
)

SIDE, GAP, MARGIN = 272, 16, 24
"""Of a picture, between pictures, and around the sheet, in pixels."""
HEADER, HEADING, TITLE, SCALE = 26, 50, 22, 26
"""Heights of the file's name, a row's heading, a picture's title and its scale."""
LINE, COLUMNS = TITLE + SIDE + SCALE, 7
"""Height of a line of pictures, and how many it has at most; the strip of a clip counts twice."""
PAPER, INK, FAINT = "#ffffff", "#1b1f24", "#5f6873"


@dataclass(frozen=True)
class _Panel:
    """One picture, its title, and the scale below it."""

    title: str
    pixels: Pixels
    kind: Kind | None = None
    bounds: Bounds | None = None


def write_sheets(folder: Path) -> list[Path]:
    """Draw one PNG beside each `.npz` of a folder in the gallery's format.

    Returns:
        The PNG files, in the order of the index.

    Raises:
        InputError: The index or an entry's arrays are missing or not of the recorded kind.
    """
    index = read_json(folder / "index.json")
    stages, kinds = [str(stage) for stage in dig_list(index, "stages")], kinds_of(index)
    return [_write_sheet(folder, entry, stages, kinds) for entry in dig_list(index, "entries")]


def _write_sheet(folder: Path, entry: Record, stages: list[str], kinds: Sequence[Kind]) -> Path:
    path = folder / Path(str(dig(entry, "file"))).name
    sheet = _sheet(path, entry, [stage for stage in stages if dig(entry, "stages", stage)], kinds)
    target = path.with_suffix(".png")
    with whole_file(target) as part:
        sheet.save(part, "PNG")
    return target


def _sheet(path: Path, entry: Record, stages: list[str], kinds: Sequence[Kind]) -> Image.Image:
    """Lay out the sheet of one image: its name, then heading and pictures of each stage."""
    if not stages:
        raise InputError(f"{path}: the index gives no stage for it")
    arrays = read_arrays(path)
    image = image_of(path, arrays)
    side = SIDE * (image.ndim - 2)
    lines = -(-(1 + len(kinds)) // (COLUMNS * SIDE // side))
    columns = -(-(1 + len(kinds)) // lines)
    row = HEADING + lines * LINE
    width = 2 * MARGIN + columns * side + (columns - 1) * GAP
    sheet = Image.new("RGB", (width, MARGIN + HEADER + len(stages) * row + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    name = Path(str(dig(entry, "name"))).name
    _text(draw, (MARGIN, MARGIN), name, 18, bold=True, room=width - 2 * MARGIN)
    for number, stage in enumerate(stages):
        record = dig(entry, "stages", stage)
        top = MARGIN + HEADER + number * row
        heading = f"{_title(stage)}: {_answer(record)}"
        _text(draw, (MARGIN, top + 20), heading, 14, room=width - 2 * MARGIN)
        panels = [_Panel("Input", strip(image))]
        for kind, array, bounds in maps_of(path, record, stage, arrays, kinds):
            pixels, shown = paint(kind, image, array, bounds)
            panels.append(_Panel(kind.title, strip(pixels), kind, shown))
        for place, panel in enumerate(panels):
            line, column = divmod(place, columns)
            left, upper = MARGIN + column * (side + GAP), top + HEADING + line * LINE
            _draw_panel(sheet, draw, panel, (left, upper), side)
    return sheet


def _title(stage: str) -> str:
    return f"{STAGES[stage]} ({stage})" if stage in STAGES else stage


def _answer(record: Record) -> str:
    """Say which class the maps explain, what the network thinks of it, and how far they agree."""
    top = str(dig(record, "top"))
    explained = str(dig(record, "explained") or top)
    said = f"explains {explained} ({_percent(record, explained)})"
    if explained != top:
        said += f", its first choice is {top} ({_percent(record, top)})"
    return f"{said}; consistency {decimal(dig_number(record, 'correlation'), 2)}"


def _percent(record: Record, label: str) -> str:
    p = dig_number(record, "probabilities", label)
    return UNDEFINED if p is None else f"{100 * p:.0f} %"


def _draw_panel(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, panel: _Panel, place: tuple[int, int], side: int
) -> None:
    left, top = place
    _text(draw, (left, top + 2), panel.title, 12, colour=FAINT, room=side)
    picture = _fitted(panel.pixels, side)
    place = (left + (side - picture.width) // 2, top + TITLE + (SIDE - picture.height) // 2)
    sheet.paste(picture, place)
    if panel.kind is None or panel.bounds is None:
        return
    below = top + TITLE + SIDE + 5
    low, high = ends(*panel.bounds)
    if not panel.kind.colours:
        keeps = f"keeps {_share(panel.bounds[0])} to {_share(panel.bounds[1])}"
        _text(draw, (left, below), keeps, 11, colour=FAINT)
        return
    start = left + _text(draw, (left, below), low, 11, colour=FAINT) + 6
    end = left + side - round(_font(11).getlength(high)) - 6
    _text(draw, (end + 6, below), high, 11, colour=FAINT)
    if end > start:
        bar = coloured(panel.kind, np.linspace(0, 1, end - start)[None].repeat(8, axis=0))
        sheet.paste(Image.fromarray(bar), (start, below + 3))


def _share(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.1f} %"


def _fitted(pixels: Pixels, side: int) -> Image.Image:
    """Scale a picture, up or down, as large as it fits into SIDE by `side` pixels."""
    scale = min(SIDE / pixels.shape[0], side / pixels.shape[1])
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    *,
    colour: str = INK,
    bold: bool = False,
    room: int | None = None,
) -> int:
    """Write one line, shortened in its middle where it needs more than `room`; give its width."""
    font = _font(size, bold=bold)
    shown = printable(text)
    if room is not None:
        shown = next(line for line in _shortened(shown) if font.getlength(line) <= room)
    draw.text(place, shown, fill=colour, font=font)
    return round(font.getlength(shown))


def _shortened(text: str) -> Iterator[str]:
    """The text, then with ever less of its middle."""
    yield text
    for kept in range(len(text) // 2, -1, -1):
        yield f"{text[:kept]}…{text[len(text) - kept :]}"


@lru_cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
