"""The charts and pictures of a page as files for a paper: PDF, of lines and letters, and PNG."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib.style
from matplotlib.figure import Figure as Sheet

from atcon.records import check_new, whole_folder
from atcon.report import experiment, figures
from atcon.report.charts import Style
from atcon.report.drawing import Place, draw, new_sheet, viewed, width_of, wrapped
from atcon.report.figures import Figure
from atcon.report.forest import forest_chart
from atcon.report.gain_chart import marker
from atcon.report.gallery_sheets import gallery_sheets
from atcon.report.inputs import Record, Run, read_run
from atcon.report.style import look_of

DPI = 300
MARGIN, LINE, GAP, SAMPLE = 2, 14, 16, 26
"""Around a chart, of a line of words, and between and within entries of a legend, in its units."""
TITLE, TEXT = 11.0, 10.0
Named = tuple[str, Sheet]
"""A figure and the name of its files, without an ending."""


def write_run_figures(run: Path, folder: Path, *, images: bool = True) -> list[Path]:
    """Write every chart of a run's page, and its gallery, as PDF and PNG files.

    Args:
        run: The run folder.
        folder: A new folder; it appears whole or not at all.
        images: Whether the gallery is among them, which is all that has pictures of images.

    Returns:
        The files, in the order of the page; equal records give equal files.

    Raises:
        InputError: `folder` exists, or a record is missing or damaged.
    """
    check_new(folder, "--figures")
    return _write(_of_run(read_run(run), images=images), folder)


def write_experiment_figures(page: Record, folder: Path) -> list[Path]:
    """Write every chart of an experiment's page as PDF and PNG files.

    Args:
        page: What the page shows; see docs/architecture.md.
        folder: A new folder; it appears whole or not at all.

    Returns:
        The files, in the order of the page; equal records give equal files.

    Raises:
        InputError: `folder` exists, or the page is not what it should be.
    """
    check_new(folder, "--figures")
    return _write(_of_charts(_of_experiment(page)), folder)


def _of_experiment(page: Record) -> Iterator[tuple[str, Figure]]:
    """Give the charts of an experiment; the title of each is its name."""
    found = [figure for gain in experiment.gains(page) for figure in gain.charts]
    found += experiment.curves(page)
    found += filter(None, (experiment.heat_figure(page), experiment.agreement_figure(page)))
    for figure in found:
        yield figure.title, figure


def _of_run(run: Run, *, images: bool) -> Iterator[Named]:
    yield from _of_charts(_charts_of(run))
    if images:
        sheets = list(gallery_sheets(run))
        for number, sheet in enumerate(sheets, 1):
            yield f"gallery-{number:0{len(str(len(sheets)))}}", sheet


def _charts_of(run: Run) -> Iterator[tuple[str, Figure]]:
    plot = figures.gain_plot(run.summary)
    if plot is not None:
        title = "Gains over the supervised network, in points"
        yield "gains", Figure(title, "", forest_chart(title, plot))
    for stage, panels in figures.curves(run):
        for figure in panels:
            yield f"{stage.partition(',')[0]} {figure.title}", figure
    scatter = figures.scatter(run)
    if scatter is not None:
        yield scatter.title, scatter


def _of_charts(charts: Iterable[tuple[str, Figure]]) -> Iterator[Named]:
    for name, figure in charts:
        yield re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), chart_sheet(figure)


def chart_sheet(chart: Figure) -> Sheet:
    """Draw a chart in the light style, its title above and its legend below."""
    root, width, height = viewed(chart.svg)
    title = wrapped(chart.title, TITLE, width)
    entries = list(_entries(chart.legend, width))
    top = MARGIN + LINE * len(title) + 6
    rows = 1 + max((row for _, row, _, _ in entries), default=-1)
    below = top + height + 6
    sheet = new_sheet(width + 2 * MARGIN, below + LINE * rows + MARGIN)
    head = {**look_of("text", "head"), "font-size": f"{TITLE}px", "font-weight": "600"}
    for number, line in enumerate(title):
        sheet.write(line, MARGIN, MARGIN + LINE * number + 9, head)
    draw(root, Place(sheet.axes, MARGIN, top))
    for x, row, style, label in entries:
        left, y = MARGIN + x, below + LINE * row
        if style:
            draw(_sample(root, style), Place(sheet.axes, left, y))
        sheet.write(label, left + SAMPLE, y + 9.5, look_of("text", "head"))
    return sheet.sheet


def _entries(legend: Iterable[Style], width: float) -> Iterator[tuple[float, int, str, str]]:
    """Place a legend's entries in rows: across, row, style (not where a label goes on), words."""
    x, row = 0.0, 0
    for style, label in legend:
        lines = wrapped(label, TEXT, width - SAMPLE)
        wide = SAMPLE + max(width_of(line, TEXT) for line in lines)
        if x and x + wide > width:
            x, row = 0.0, row + 1
        for more, line in enumerate(lines):
            yield x, row + more, "" if more else style, line
        x, row = x + wide + GAP, row + len(lines) - 1


def _sample(chart: ET.Element, style: str) -> ET.Element:
    """Draw what stands for a style in a chart: a sign, a line or a dot."""
    samples = {
        "sign": marker(style, 10, 6),
        "line": f'<polyline class="line {style}" points="1,6 19,6"/>',
        "cloud": f'<path class="cloud {style}" d="M10 6h0"/>',
    }
    kinds = {(element.get("class") or "").partition(" ")[0] for element in chart}
    kind = next(kind for kind in samples if kind in kinds)
    return ET.fromstring(f"<svg>{samples[kind]}</svg>")  # noqa: S314 - ours


def _write(sheets: Iterable[Named], folder: Path) -> list[Path]:
    """Write the files into a folder beside, which becomes `folder` once all are there."""
    names: list[str] = []
    plain = matplotlib.style.context(["default", {"pdf.fonttype": 42}])  # whatever the user's are
    with whole_folder(folder) as part, plain:
        for name, sheet in sheets:
            sheet.savefig(part / f"{name}.pdf", dpi=DPI, metadata={"CreationDate": None})
            sheet.savefig(part / f"{name}.png", dpi=DPI, metadata={"Software": None})
            names += [f"{name}.pdf", f"{name}.png"]
    return [folder / name for name in names]
