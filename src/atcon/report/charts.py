"""Charts as SVG without a size or a colour of their own: those come from the page and its style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup

from atcon.report.formats import decimal

Point = tuple[float, float]
Style = tuple[str, str]
"""A style class and what the legend says of it."""
WIDTH, HEIGHT, SCATTER_HEIGHT = 360, 216, 300
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 12, 34


@dataclass(frozen=True)
class Line:
    """One curve: its legend, its style class, its points, and what is marked on it."""

    label: str
    style: str
    points: tuple[Point, ...]
    kept: float | None = None
    start: float | None = None


@dataclass(frozen=True)
class Axes:
    """Linear scales from data to the drawing: the span of x, its round ticks, those of y."""

    span: tuple[float, float]
    x: tuple[float, ...]
    y: tuple[float, ...]
    height: int = HEIGHT

    def at(self, point: Point) -> Point:
        """Return where a data point is drawn."""
        across = (point[0] - self.span[0]) / (self.span[1] - self.span[0])
        up = (point[1] - self.y[0]) / (self.y[-1] - self.y[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            self.height - BOTTOM - up * (self.height - TOP - BOTTOM),
        )


def round_ticks(values: Sequence[float], count: int = 4, least: float = 0.0) -> tuple[float, ...]:
    """Return equally spaced round numbers that enclose `values`: 1, 2 or 5 times 10 to a power."""
    low, high = min(values), max(values)
    span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6) / count
    power = 10.0 ** floor(log10(span))
    step = max(next(power * unit for unit in (1, 2, 5, 10) if power * unit >= span * 0.999), least)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return tuple(index * step for index in range(first, max(last, first + 1) + 1))


def line_chart(title: str, lines: Sequence[Line], across: str = "epoch") -> Markup:
    """Draw curves over epochs, with the start as a dashed line and the kept epoch as a ring."""
    starts = [line.start for line in lines if line.start is not None]
    points = [point for line in lines for point in line.points]
    first = min(x for x, _ in points)
    span = first, max(first + 1, *(x for x, _ in points))
    ticks = tuple(x for x in round_ticks(span, 5, least=1) if span[0] <= x <= span[1])
    axes = Axes(span, ticks, round_ticks([*(y for _, y in points), *starts]))
    parts = [_frame(axes, across)]
    parts += [_rule(axes, (span[0], y), (span[1], y), "start") for y in starts[:1]]
    parts += [_curve(axes, line) for line in lines]
    return svg_of(_summary(title, lines, across), parts)


def _curve(axes: Axes, line: Line) -> str:
    path = " ".join("{:.1f},{:.1f}".format(*axes.at(point)) for point in line.points)
    parts = [f'<polyline class="line {line.style}" points="{path}"/>']
    for x, y in (axes.at(point) for point in line.points if point[0] == line.kept):
        parts.append(f'<circle class="ring {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
    if len(line.points) == 1:
        x, y = axes.at(line.points[0])
        parts.append(f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
    return "".join(parts)


def _summary(title: str, lines: Sequence[Line], across: str) -> str:
    said = [
        f"{line.label}: from {tick(line.points[0][1])} to {tick(line.points[-1][1])} over "
        f"{across}s {line.points[0][0]:.0f} to {line.points[-1][0]:.0f}"
        + (f", {across} {line.kept:.0f} kept" if line.kept is not None else "")
        for line in lines
    ]
    return f"{title}. {'; '.join(said)}."


def _frame(axes: Axes, x_label: str, y_label: str = "") -> str:
    parts = []
    step = min(b - a for a, b in pairwise(axes.y))
    for value in axes.y:
        x, y = axes.at((axes.span[0], value))
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick end" x="{x - 6:.1f}" y="{y + 3.5:.1f}">{tick(value, step)}</text>'
        )
    step = min((b - a for a, b in pairwise(axes.x)), default=1)
    for value in axes.x:
        x, y = axes.at((value, axes.y[0]))
        parts.append(
            f'<text class="tick mid" x="{x:.1f}" y="{y + 14:.1f}">{tick(value, step)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="name mid" x="{middle}" y="{axes.height - 5}">{x_label}</text>')
    if y_label:
        parts.append(f'<text class="name" x="{LEFT}" y="{TOP - 4}">{y_label}</text>')
    return "".join(parts)


def _rule(axes: Axes, first: Point, last: Point, style: str) -> str:
    (x1, y1), (x2, y2) = axes.at(first), axes.at(last)
    return f'<path class="rule {style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def tick(value: float, step: float = 0.001, *, signed: bool = False) -> str:
    """Format a number with as many decimals as the step between ticks needs."""
    digits = max(0, -floor(log10(step) + 1e-9))
    return decimal(value, min(digits, 6), signed=signed)


def svg_of(title: str, parts: Sequence[str], height: int = HEIGHT, *, width: int = WIDTH) -> Markup:
    """Put the parts of a drawing together; `title` is what it says to those who cannot see it."""
    drawing = Markup("".join(parts))  # noqa: S704 - our own numbers and words
    frame = '<svg viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>'
    return Markup(frame).format(width, height, title, drawing)  # noqa: S704 - a constant


def scatter_chart(groups: Mapping[Style, Sequence[Point]], meaning: str) -> Markup:
    """Draw the change of consistency over its start; the dashed line is the ceiling of 1."""
    points = [point for group in groups.values() for point in group]
    ticks = round_ticks([x for x, _ in points], 5)
    y_ticks = round_ticks([0.0, *(y for _, y in points)])
    end = min(ticks[-1], max(1.0, *(x for x, _ in points)))  # consistency ends at 1
    ticks = tuple(x for x in ticks if x <= end)
    axes = Axes((ticks[0], end), ticks, y_ticks, height=SCATTER_HEIGHT)
    parts = [_frame(axes, "consistency before", "change")]
    parts.append(_rule(axes, (axes.x[0], 0), (end, 0), "zero"))
    left, right = max(axes.x[0], 1 - axes.y[-1]), min(end, 1 - axes.y[0])
    if left < right:
        parts.append(_rule(axes, (left, 1 - left), (right, 1 - right), "start"))
    for (style, _), group in reversed(tuple(groups.items())):
        path = "".join("M{:.1f} {:.1f}h0".format(*axes.at(point)) for point in group)
        if path:
            parts.append(f'<path class="cloud {style}" d="{path}"/>')
    return svg_of(
        f"Change of consistency against consistency before. {meaning}", parts, SCATTER_HEIGHT
    )
