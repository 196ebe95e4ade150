"""The page of an experiment: what `experiments.grid_page` found in the records, drawn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from atcon.errors import InputError
from atcon.records import write_text
from atcon.report.charts import Line, line_chart, scatter_chart
from atcon.report.figures import Figure
from atcon.report.formats import Estimate, decimal, duration, plain, probability, span
from atcon.report.gain_chart import OTHERS, Series, gain_chart
from atcon.report.heat_map import Cell, Heat, heat_map
from atcon.report.inputs import Record, dig, dig_list, dig_number, number
from atcon.report.page import asset, environment_of
from atcon.report.paper_table import paper_tables

TOGETHER = len(OTHERS)
"""How many methods besides ours and the control share a chart."""
BRIEF = 160
"""Characters of the reason of a failure on the page; `atcon experiment status` gives all."""
STYLES = {"consistency": "ours", "uniform": "control"}
_LINES = ("ours", *OTHERS)


@dataclass(frozen=True)
class Row:
    """A line of a table: a name, and an estimate with a star, or a text, for every column."""

    name: str
    cells: tuple[Estimate, ...]
    stars: tuple[bool, ...]


@dataclass(frozen=True)
class Table:
    """A metric: its title, the sizes at its columns, and its rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Gains:
    """A metric against one stage: the table of differences and its charts."""

    table: Table
    charts: tuple[Figure, ...]


@dataclass(frozen=True)
class Size:
    """How many cells of a size are finished, which are missing, what they took, why some failed."""

    name: str
    finished: int
    planned: int
    missing: str
    spent: str
    failed: tuple[tuple[str, str], ...] = ()


def write_experiment_report(page: Record, target: Path) -> Path:
    """Draw the page of an experiment and return its path.

    Args:
        page: See docs/architecture.md.
        target: The file to write.

    Raises:
        InputError: The page lacks something, or holds something else than it should.
    """
    write_text(target, render(page))
    return target


def render(page: Record) -> str:
    """Return the page as text; equal records give equal text."""
    template = environment_of(str(dig(page, "unit"))).get_template("experiment.html.j2")
    return template.render(**_context(page)).encode("utf-8", "replace").decode("utf-8")


def _context(page: Record) -> dict[str, Any]:
    cells = dig_list(page, "cells")
    finished = sum(dig(cell, "finished") is True for cell in cells)
    return {
        "name": str(dig(page, "name")),
        "title": str(dig(page, "title")),
        "level": f"{100 * (dig_number(page, 'level') or 0.95):.0f} %",
        "finished": finished,
        "planned": len(cells),
        "sizes": states(page),
        "protocol": [(str(term), str(text)) for term, text in dig_list(page, "protocol")],
        "tables": paper_tables(page),
        "gains": gains(page),
        "values": [_values(page, one) for one in dig_list(page, "values")],
        "seconds": _seconds(page),
        "heads": columns(page),
        "curves": curves(page),
        "heat": heat_figure(page),
        "scatter": agreement_figure(page),
        "samples": str(dig(page, "unit")),
        "sample": str(dig(page, "unit")).removesuffix("s"),
        "style": asset("report.css"),
    }


def states(page: Record) -> list[Size]:
    """Say of every size which cells are finished, which failed and why, and which are missing."""
    by_size: dict[int, list[Record]] = {}
    for cell in dig_list(page, "cells"):
        by_size.setdefault(int(dig_number(cell, "per_class") or 0), []).append(cell)
    found = []
    for size, cells in by_size.items():
        done = [cell for cell in cells if dig(cell, "finished") is True]
        spent = [seconds for cell in done if (seconds := dig_number(cell, "seconds")) is not None]
        failed = [cell for cell in cells if cell not in done and dig(cell, "failed")]
        missing = [str(dig(cell, "seed")) for cell in cells if cell not in [*done, *failed]]
        reasons = tuple((str(dig(cell, "seed")), _brief(dig(cell, "failed"))) for cell in failed)
        mean = duration(sum(spent) / len(spent)) if spent else ""
        counts = len(done), len(cells)
        found.append(Size(f"N = {size}", *counts, ", ".join(missing), mean, reasons))
    return found


def _brief(reason: object) -> str:
    """Give the first line of a reason, cut where it is long."""
    return shorten(str(reason).strip().partition("\n")[0], BRIEF, placeholder=" …")


def columns(page: Record) -> tuple[str, ...]:
    """Give the names of the training-set sizes."""
    return tuple(f"N = {size:.0f}" for size in map(_whole, dig_list(page, "sizes")))


def _whole(value: object) -> float:
    found = number(value, "sizes")
    if found is None:
        raise InputError("sizes: expected a number, found nothing")
    return found


def mark(record: Record | None, where: str) -> tuple[Estimate, bool]:
    """Read `{value, low, high, p, clear}` as an estimate and whether it has a star."""
    value, low, high, p = (dig_number(record, key) for key in ("value", "low", "high", "p"))
    signed = where == "gains"
    if value is None:
        return plain(None), False
    interval = span(low, high, 1, signed=signed)
    text = decimal(value, 1, signed=signed)
    said = "" if p is None else probability(p)
    return Estimate(value, text, low, high, interval, p, said), dig(record, "clear") is True


def gains(page: Record) -> list[Gains]:
    """Draw every metric against every stage that it is compared with."""
    found = []
    for one in dig_list(page, "gains"):
        title = f"{dig(one, 'title')}: difference from {dig(one, 'against')}"
        series = series_of(page, one)
        rows = tuple(Row(each.label, each.marks, each.clear) for each in series)
        table = Table(title, columns(page), rows)
        found.append(Gains(table, tuple(_charts(page, title, series))))
    return found


def series_of(page: Record, one: Record) -> list[Series]:
    """Read the methods of a metric: ours first, then the control, then the others."""
    titles = dig(page, "titles") or {}
    arms: Mapping[str, Sequence[Record | None]] = dig(one, "arms") or {}
    order = sorted(arms, key=lambda stage: [*STYLES, stage].index(stage))
    others, found = 0, []
    for stage in order:
        style = STYLES.get(stage)
        if style is None:
            style, others = OTHERS[others % TOGETHER], others + 1
        marks = [mark(record, "gains") for record in arms[stage]]
        label = str(titles.get(stage, stage))
        found.append(
            Series(label, style, tuple(m for m, _ in marks), tuple(clear for _, clear in marks))
        )
    return found


def groups_of(series: Sequence[Series]) -> list[list[Series]]:
    """Part many methods into charts that can be read; ours and the control are in each."""
    fixed = [one for one in series if one.style in STYLES.values()]
    others = [one for one in series if one.style not in STYLES.values()]
    parts = [others[at : at + TOGETHER] for at in range(0, len(others), TOGETHER)] or [[]]
    return [[*fixed, *part] for part in parts if fixed or part]


def _charts(page: Record, title: str, series: Sequence[Series]) -> Iterator[Figure]:
    parts = groups_of([one for one in series if any(m.value is not None for m in one.marks)])
    for number_, part in enumerate(parts, 1):
        of = f" ({number_} of {len(parts)})" if len(parts) > 1 else ""
        svg = gain_chart(f"{title}{of}", columns(page), part)
        yield Figure(f"{title}{of}", "", svg, tuple((one.style, one.label) for one in part))


def _values(page: Record, one: Record) -> Table:
    titles = dig(page, "titles") or {}
    rows = []
    for stage, records in (dig(one, "arms") or {}).items():
        cells = tuple(mark(record, "values")[0] for record in records)
        rows.append(Row(str(titles.get(stage, stage)), cells, (False,) * len(cells)))
    return Table(str(dig(one, "title")), columns(page), tuple(rows))


def _seconds(page: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """Give for every stage its seconds of training and the epochs that were kept, by size."""
    titles = dig(page, "titles") or {}
    found = []
    for stage, records in (dig(page, "seconds") or {}).items():
        cells = []
        for record in records:
            seconds = dig_number(record, "seconds")
            epochs = ", ".join(f"{number(e, 'epochs'):g}" for e in dig_list(record, "epochs"))
            cells.append((duration(seconds) or "–", epochs))
        found.append((str(titles.get(stage, stage)), cells))
    return found


def curves(page: Record) -> list[Figure]:
    """Draw what was measured in every round of the fine-tuning, a line for each size."""
    lines = followed_lines(page)
    if not lines:
        return []
    title = "mAP of the followed images"
    meaning = "Mean over seeds; round 0 is the supervised network."
    legend = tuple((line.style, line.label) for line in lines)
    return [Figure(title, meaning, line_chart(title, lines, "round"), legend)]


def followed_lines(page: Record) -> list[Line]:
    """Read the rounds of every size as a line."""
    lines = []
    rounds = dig_list(page, "followed")
    for at, (name, values) in enumerate(zip(columns(page), rounds, strict=False)):
        known = [(float(x), number(y, "followed")) for x, y in enumerate(values)]
        points = tuple((x, y) for x, y in known if y is not None)
        if points:
            lines.append(Line(name, _LINES[at % len(_LINES)], points))
    return lines


def heat_of(page: Record) -> Heat | None:
    """Read Table 4, correlations of losses, where the cells monitored them."""
    table = dig(page, "losses")
    if not table:
        return None
    cells = tuple(tuple(_heat_cell(one) for one in line) for line in dig_list(table, "cells"))
    rows, heads = (tuple(map(str, dig_list(table, key))) for key in ("rows", "columns"))
    return Heat(rows, heads, cells)


def _heat_cell(record: Record) -> Cell:
    value, low, high, paper = (dig_number(record, k) for k in ("value", "low", "high", "paper"))
    own = Estimate(value, decimal(value, 2), low, high, span(low, high, 2))
    return Cell(own, "" if paper is None else f"paper {decimal(paper, 2)}")


def heat_figure(page: Record) -> Figure | None:
    """Draw Table 4 with the paper's numbers beside ours."""
    heat = heat_of(page)
    if heat is None:
        return None
    title = "Correlation of each loss with the supervised loss"
    return Figure(title, "", heat_map(title, heat))


def agreement_of(page: Record) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Read per-image consistency before, and its change under ours and under the control."""
    titles = dig(page, "titles") or {}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for stage, pairs in (dig(page, "agreement") or {}).items():
        known = [tuple(number(end, "agreement") for end in pair) for pair in pairs]
        points = [(x, y) for x, y in known if x is not None and y is not None]
        if stage in STYLES and points:
            found[STYLES[stage], str(titles.get(stage, stage))] = points
    return found


def agreement_figure(page: Record) -> Figure | None:
    """Draw supplement Figure 1: the gain of consistency against the consistency before."""
    groups = agreement_of(page)
    if not groups:
        return None
    said = [
        f"{label}: rose for {sum(y > 0 for _, y in points)} of {len(points)}"
        for (_, label), points in groups.items()
    ]
    meaning = f"{'; '.join(said)} {dig(page, 'unit')} over all cells."
    legend = tuple((style, label) for style, label in groups)
    return Figure("Gain of consistency", meaning, scatter_chart(groups, meaning), legend)
