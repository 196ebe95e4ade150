"""What methods gain at each training-set size: dots with their intervals, about a line at zero."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from atcon.report.charts import round_ticks, svg_of, tick
from atcon.report.formats import Estimate

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 14, 26
OTHERS = ("first", "second", "third", "fourth")
"""Styles of the methods that are neither ours nor the control; each has its colour and shape."""
CLEAR = "The interval and the test over seeds leave no doubt after Holm's correction."
_RADIUS = 4.0
_SHAPES = {
    "second": "M{x} {top}L{right} {bottom}H{left}Z",
    "third": "M{x} {top}L{right} {y}L{x} {bottom}L{left} {y}Z",
    "fourth": "M{x} {bottom}L{right} {top}H{left}Z",
    "first": "M{left} {top}H{right}V{bottom}H{left}Z",
}
"""Shapes tell methods apart where colours do not; ours and the control are round."""


@dataclass(frozen=True)
class Series:
    """A method: its name, its style, and an estimate for every training-set size.

    Attributes:
        label: For the legend.
        style: "ours", "control" or one of `OTHERS`.
        marks: One for each size; one that is not bounded is left out.
        clear: Which of them are marked with a star.
    """

    label: str
    style: str
    marks: tuple[Estimate, ...]
    clear: tuple[bool, ...]


@dataclass(frozen=True)
class _Scale:
    ticks: tuple[float, ...]
    columns: int

    def across(self, column: int, share: float) -> float:
        """Where a dot stands: `share` of its column, 0 to 1."""
        wide = (WIDTH - LEFT - RIGHT) / self.columns
        return LEFT + wide * (column + 0.1 + 0.8 * share)

    def up(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def gain_chart(title: str, sizes: Sequence[str], series: Sequence[Series]) -> Markup:
    """Draw a line for each method over the sizes, side by side within each, with its intervals.

    Args:
        title: What is gained, for the alternative text.
        sizes: The names of the columns.
        series: The methods, each with as many marks as there are sizes.
    """
    bounds = [end for one in series for mark in one.marks for end in _ends(mark)]
    scale = _Scale(round_ticks([0.0, *bounds], 5), len(sizes))
    parts = [*_frame(scale, sizes)]
    for place, one in reversed([*enumerate(series)]):
        parts += _drawn(scale, one, (place + 0.5) / len(series))
    return svg_of(_words(title, sizes, series), parts, HEIGHT, width=WIDTH)


def _ends(mark: Estimate) -> list[float]:
    return [end for end in (mark.value, mark.low, mark.high) if end is not None]


def _frame(scale: _Scale, sizes: Sequence[str]) -> Iterator[str]:
    step = scale.ticks[1] - scale.ticks[0]
    for value in scale.ticks:
        y = scale.up(value)
        style = "rule zero" if value == 0 else "grid"
        yield f'<path class="{style}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        said = tick(value, step, signed=True)
        yield f'<text class="tick end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{said}</text>'
    for column, size in enumerate(sizes):
        if column:
            x = LEFT + column * (WIDTH - LEFT - RIGHT) / scale.columns
            yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        x, y = scale.across(column, 0.5), HEIGHT - BOTTOM + 16
        yield f'<text class="tick mid" x="{x:.1f}" y="{y}">{Markup.escape(size)}</text>'


def _drawn(scale: _Scale, one: Series, share: float) -> Iterator[str]:
    spots = [
        (scale.across(column, share), mark, star)
        for column, (mark, star) in enumerate(zip(one.marks, one.clear, strict=True))
        if mark.value is not None
    ]
    line = " ".join(f"{x:.1f},{scale.up(mark.value or 0.0):.1f}" for x, mark, _ in spots)
    yield f'<polyline class="link {one.style}" points="{line}"/>'
    for x, mark, star in spots:
        if mark.low is not None and mark.high is not None:
            top, bottom = scale.up(mark.high), scale.up(mark.low)
            yield f'<path class="bar {one.style}" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'
            if star:
                y = top - 2
                yield f'<text class="star mid" x="{x:.1f}" y="{y:.1f}">*</text>'
        yield marker(one.style, x, scale.up(mark.value or 0.0))


def marker(style: str, x: float, y: float) -> str:
    """Draw the sign of a method at a place."""
    shape = _SHAPES.get(style)
    if shape is None:
        return f'<circle class="sign {style}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>'
    sides = {"left": x - _RADIUS, "right": x + _RADIUS, "top": y - _RADIUS, "bottom": y + _RADIUS}
    places = {key: f"{value:.1f}" for key, value in (sides | {"x": x, "y": y}).items()}
    return f'<path class="sign {style}" d="{shape.format(**places)}"/>'


def key(style: str) -> Markup:
    """Draw the sign of a method for a legend, where the words beside it say what it is."""
    content = Markup(marker(style, 6, 6))  # noqa: S704 - our own numbers and words
    frame = '<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{}</svg>'
    return Markup(frame).format(content)  # noqa: S704 - a constant


def _words(title: str, sizes: Sequence[str], series: Sequence[Series]) -> str:
    said = []
    for one in series:
        marks = zip(sizes, one.marks, one.clear, strict=True)
        known = [
            f"{size} {mark.text}{f' ({mark.interval})' if mark.interval else ''}"
            f"{' *' if star else ''}"
            for size, mark, star in marks
            if mark.value is not None
        ]
        said.append(f"{one.label}: {', '.join(known) or 'not measured'}")
    return f"{title}. {'; '.join(said)}."
