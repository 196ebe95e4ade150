"""A table of signed numbers as a heat map: the deeper the colour, the further from zero."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from atcon.report.charts import svg_of
from atcon.report.formats import UNDEFINED, Estimate

WIDTH, LEFT, TOP, LINE = 420, 126, 22, 58
DEEPEST = 0.5
"""Opacity at the end of the scale: the numbers stay readable on it in both themes."""
_LETTERS = 18


@dataclass(frozen=True)
class Cell:
    """A number with its interval, and what the paper printed there, if it did."""

    own: Estimate
    paper: str = ""


@dataclass(frozen=True)
class Heat:
    """The names of rows and columns, and a cell for each pair; the scale ends at ±`limit`."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    limit: float = 1.0


def heat_map(title: str, heat: Heat) -> Markup:
    """Draw the cells with their numbers: blue above zero, orange below, nothing where undefined."""
    parts = [*_heads(heat)]
    for row, line in enumerate(heat.cells):
        for column, cell in enumerate(line):
            parts += _cell(heat, row, column, cell)
    return svg_of(_words(title, heat), parts, TOP + LINE * len(heat.rows), width=WIDTH)


def _wide(heat: Heat) -> float:
    return (WIDTH - LEFT) / len(heat.columns)


def _heads(heat: Heat) -> Iterator[str]:
    for column, name in enumerate(heat.columns):
        x = LEFT + (column + 0.5) * _wide(heat)
        yield f'<text class="head mid" x="{x:.1f}" y="{TOP - 9}">{Markup.escape(name)}</text>'
    for row, name in enumerate(heat.rows):
        lines = _wrapped(name)
        first = TOP + (row + 0.5) * LINE + 3.5 - 6 * (len(lines) - 1)
        for place, part in enumerate(lines):
            y = first + 12 * place
            yield f'<text class="head" x="0" y="{y:.1f}">{Markup.escape(part)}</text>'


def _wrapped(text: str) -> list[str]:
    """Break a long name at its spaces and after its underscores."""
    lines = [""]
    for part in re.findall(r"[^\s_]+[\s_]*|[\s_]+", text.strip()):
        if len((lines[-1] + part).strip()) > _LETTERS and lines[-1]:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]


def _cell(heat: Heat, row: int, column: int, cell: Cell) -> Iterator[str]:
    wide, value = _wide(heat), cell.own.value
    x, y = LEFT + column * wide, TOP + row * LINE
    style = "none" if value is None else "above" if value >= 0 else "below"
    depth = DEEPEST * min(abs(value or 0.0) / heat.limit, 1.0)
    yield (
        f'<rect class="heat {style}" x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" '
        f'height="{LINE - 2}" fill-opacity="{depth:.3f}"/>'
    )
    said = [("value", cell.own.text), ("beneath", cell.own.interval), ("beneath", cell.paper)]
    shown = [(kind, text) for kind, text in said if text]
    middle = x + wide / 2
    for place, (kind, text) in enumerate(shown):
        down = y + LINE / 2 + 4 + 13 * (place - (len(shown) - 1) / 2)
        said_there = Markup.escape(text)
        yield f'<text class="{kind} mid" x="{middle:.1f}" y="{down:.1f}">{said_there}</text>'


def _words(title: str, heat: Heat) -> str:
    said = [
        f"{row}, {column}: {cell.own.text if cell.own.value is not None else UNDEFINED}"
        + (f" ({cell.own.interval})" if cell.own.interval else "")
        + (f", {cell.paper}" if cell.paper else "")
        for row, line in zip(heat.rows, heat.cells, strict=True)
        for column, cell in zip(heat.columns, line, strict=True)
    ]
    return f"{title}. {'; '.join(said)}."
