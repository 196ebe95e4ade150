"""The gains of a run on one axis as a chart, for files; the page lays them out to fit its width."""

from collections.abc import Iterator
from itertools import groupby

from markupsafe import Markup

from atcon.report.charts import WIDTH, svg_of
from atcon.report.figures import GainPlot, GainRow
from atcon.report.gain_chart import marker

LEFT, RIGHT, TOP, LINE = 110, 118, 4, 17
"""Widths for names and for numbers, the space above, and the height of a line."""
STYLES = {"uniform": "control"}


def forest_chart(title: str, plot: GainPlot) -> Markup:
    """Draw a line for each gain, beneath the name of its metric: dot, interval and numbers."""
    parts, y = [], TOP + 0.0
    for metric, rows in groupby(plot.rows, key=lambda row: row.metric):
        parts.append(f'<text class="head" x="0" y="{y + 11:.1f}">{Markup.escape(metric)}</text>')
        for row in rows:
            y += LINE
            parts += _row(row, y + LINE / 2)
        y += 1.3 * LINE
    bottom = y - 0.2 * LINE
    return svg_of(_words(title, plot), [*_axis(plot, bottom), *parts], int(bottom) + 18)


def _across(percent: float) -> float:
    return LEFT + percent / 100 * (WIDTH - LEFT - RIGHT)


def _axis(plot: GainPlot, bottom: float) -> Iterator[str]:
    for percent, text in plot.ticks:
        x = _across(percent)
        yield f'<path class="grid" d="M{x:.1f} {TOP + LINE}V{bottom:.1f}"/>'
        yield f'<text class="tick mid" x="{x:.1f}" y="{bottom + 13:.1f}">{text}</text>'
    yield f'<path class="rule zero" d="M{_across(plot.zero):.1f} {TOP + LINE}V{bottom:.1f}"/>'


def _row(row: GainRow, y: float) -> Iterator[str]:
    style = STYLES.get(row.style, row.style)
    low, high = _across(row.left), _across(row.left + row.width)
    yield f'<text class="tick" x="8" y="{y + 3.5:.1f}">{Markup.escape(row.arm)}</text>'
    yield f'<path class="bar {style}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>'
    yield marker(style, _across(row.dot), y)
    said = f"{row.gain.text} ({row.gain.interval})"
    yield f'<text class="tick end" x="{WIDTH}" y="{y + 3.5:.1f}">{said}</text>'


def _words(title: str, plot: GainPlot) -> str:
    said = [f"{row.metric}, {row.arm}: {row.gain.text} ({row.gain.interval})" for row in plot.rows]
    return f"{title}. {'; '.join(said)}."
