"""Our charts without a browser: the SVG of the page, drawn by matplotlib in the page's style."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Circle, Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from atcon.plain_text import printable
from atcon.report.charts import Point
from atcon.report.style import Look, look_of

UNIT = 0.7
"""Points of a unit of our charts, so that their text of 10 units has 7 points, as journals ask."""
FAMILY = "DejaVu Sans"
"""Comes with matplotlib: a figure is the same on every machine."""
_STEP = re.compile(r"([MLHVZh])([^MLHVZh]*)")
_ANCHORS = {"middle": "center", "end": "right"}


@dataclass(frozen=True)
class Place:
    """Where on a drawing the corner of a chart lies, in its units."""

    axes: Axes
    left: float = 0.0
    top: float = 0.0

    def at(self, x: float, y: float) -> Point:
        """Give a point of the chart in the drawing."""
        return self.left + x, self.top + y

    @property
    def sheet(self) -> Sheet:
        """The whole figure."""
        return cast("Sheet", self.axes.get_figure(root=True))

    def write(self, text: str, x: float, y: float, look: Look) -> None:
        """Write one line whose base is at a point; nothing in it is read as mathematics."""
        self.axes.text(
            *self.at(x, y),
            shown(text),
            color=look["fill"],
            fontproperties=font(size_of(look), look.get("font-weight", "normal")),
            ha=_ANCHORS.get(look.get("text-anchor", ""), "left"),
            va="baseline",
            parse_math=False,
        )

    def show(self, pixels: NDArray[np.uint8], box: tuple[float, float, float, float]) -> None:
        """Show a picture `[H, W, 3]` in a box of left, top, width and height."""
        left, top, wide, high = box
        limits = self.axes.get_xlim(), self.axes.get_ylim()
        self.axes.imshow(pixels, extent=(left, left + wide, top + high, top), aspect="auto")
        self.axes.set(xlim=limits[0], ylim=limits[1])


def shown(text: str) -> str:
    """Give a text without marks that our font lacks, or that turn or hide what is beside them."""
    known = _letters()
    return "".join(mark if ord(mark) in known else "�" for mark in printable(text))


@lru_cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FAMILY)).get_charmap())


def new_sheet(width: float, height: float) -> Place:
    """Give an empty white figure, measured in units of a chart from its upper left corner."""
    sheet = Sheet(figsize=(width * UNIT / 72, height * UNIT / 72), facecolor="white")
    axes = sheet.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return Place(axes)


@lru_cache
def font(size: float, weight: str = "normal") -> FontProperties:
    """Give our font in a size in units of a chart."""
    bold = weight not in ("normal", "400", "500")
    return FontProperties(family=FAMILY, size=size * UNIT, weight="bold" if bold else "normal")


def width_of(text: str, size: float) -> float:
    """Measure a line of text, both in units of a chart."""
    found = text_to_path.get_text_width_height_descent(shown(text), font(size), ismath=False)
    return float(found[0]) / UNIT


def wrapped(text: str, size: float, room: float) -> list[str]:
    """Break a text between words where a line would need more than `room`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(text: str, size: float, room: float) -> str:
    """Cut the end of a line off that needs more than `room`."""
    if width_of(text, size) <= room:
        return text
    lengths = range(1, len(text))
    kept = bisect_right(lengths, room, key=lambda kept: width_of(f"{text[:kept]}…", size))
    return f"{text[:kept]}…"


def size_of(look: Look) -> float:
    """Give the size of letters in units of a chart."""
    return float(look.get("font-size", look_of("svg", "")["font"].split()[0]).removesuffix("px"))


def viewed(svg: Markup) -> tuple[ET.Element, float, float]:
    """Read a chart, its width and its height."""
    root = ET.fromstring(str(svg))  # noqa: S314 - ours
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    return root, width, height


def draw(root: ET.Element, place: Place) -> None:
    """Draw every element of a chart, in its order."""
    for element in root:
        drawer = _DRAWERS.get(element.tag)
        if drawer is not None:
            look = {**element.attrib, **look_of(element.tag, element.get("class", ""))}
            drawer(element, look, place)


def _text(element: ET.Element, look: Look, place: Place) -> None:
    place.write(element.text or "", float(look["x"]), float(look["y"]), look)


def _circle(element: ET.Element, look: Look, place: Place) -> None:
    centre = place.at(*(float(element.attrib[key]) for key in ("cx", "cy")))
    _add(place, Circle(centre, float(element.attrib["r"]), **_ink(look)))


def _rect(element: ET.Element, look: Look, place: Place) -> None:
    x, y, width, height = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
    _add(place, Rectangle(place.at(x, y), width, height, **_ink(look)))


def _polyline(element: ET.Element, look: Look, place: Place) -> None:
    pairs = (pair.split(",") for pair in element.attrib["points"].split())
    points = [place.at(float(x), float(y)) for x, y in pairs]
    if points:
        _add(place, PathPatch(Outline(points), **_ink(look)))


def _path(element: ET.Element, look: Look, place: Place) -> None:
    description = element.attrib["d"]
    if "h0" in description:  # lines without a length, whose round ends are the dots of a cloud
        dots = [place.at(*point) for point, code in _outline(description) if code == Outline.MOVETO]
        colour, opacity = look["stroke"], float(look.get("stroke-opacity", 1))
        size = (float(look["stroke-width"]) * UNIT) ** 2
        across, down = zip(*dots, strict=True)
        place.axes.scatter(
            across, down, s=size, c=colour, alpha=opacity, linewidths=0, clip_on=False
        )
        return
    points, codes = zip(*_outline(description), strict=True)
    outline = Outline([place.at(*point) for point in points], codes)
    _add(place, PathPatch(outline, **_ink(look)))


def _outline(description: str) -> Iterator[tuple[Point, Any]]:
    """Read the commands that our charts use: M, L, H, V, Z and h, one point each."""
    x = y = 0.0
    for command, text in _STEP.findall(description):
        numbers = [float(one) for one in text.split()]
        if command in "ML":
            x, y = numbers
        elif command == "V":
            (y,) = numbers
        elif command in "Hh":
            x = numbers[0] + (x if command == "h" else 0.0)
        codes = {"M": Outline.MOVETO, "Z": Outline.CLOSEPOLY}
        yield (x, y), codes.get(command, Outline.LINETO)


_DRAWERS: dict[str, Callable[[ET.Element, Look, Place], None]] = {
    "text": _text,
    "circle": _circle,
    "rect": _rect,
    "polyline": _polyline,
    "path": _path,
}


def _add(place: Place, patch: Patch) -> None:
    patch.set_clip_on(False)
    place.axes.add_patch(patch)


def _ink(look: Look) -> dict[str, Any]:
    """Say how a shape is filled and outlined, as matplotlib names it."""
    wide = float(look.get("stroke-width", 1))
    dashes = [float(one) / wide for one in look.get("stroke-dasharray", "").split()]
    return {
        "facecolor": _colour(look, "fill", "none"),
        "edgecolor": _colour(look, "stroke", "none"),
        "linewidth": wide * UNIT,
        "linestyle": (0, _twice(dashes)) if dashes else "-",
        "capstyle": look.get("stroke-linecap", "butt"),
        "joinstyle": look.get("stroke-linejoin", "miter"),
    }


def _twice(dashes: Sequence[float]) -> tuple[float, ...]:
    """An odd number of dashes is repeated, so that dashes and gaps change places."""
    return tuple(dashes) * (1 + len(dashes) % 2)


def _colour(look: Look, kind: str, otherwise: str) -> Any:
    colour = look.get(kind, otherwise)
    return "none" if colour == "none" else (colour, float(look.get(f"{kind}-opacity", 1)))
