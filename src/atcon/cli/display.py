"""How progress and results look: bars on a terminal, plain lines in a log, silence on request."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from atcon.cli.terminal import Terminal
from atcon.experiments.progress import Progress
from atcon.plain_text import printable

_ROWS = (
    ("f1", "F1"),
    ("f1_tuned", "F1, thresholds fitted on validation"),
    ("map", "mAP"),
    ("iou", "IoU with the boxes"),
    ("epg", "energy inside the boxes"),
    ("consistency", "consistency of the maps"),
)
_CONTROLS = {"uniform": "uniform mask", "calibration": "thresholds fitted on validation"}
_COUNTED = {"clips": "clips", "download": "MB"}
_SHOWN = {"loss": "loss", "correlation": "consistency", "mask_contrast": "mask contrast"}


def progress_for(*, quiet: bool) -> Progress:
    """Choose a display for this terminal."""
    if quiet:
        return Progress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class LineProgress(Progress):
    """One plain line per epoch on standard error."""

    def note(self, text: str) -> None:
        """Print a line."""
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()

    milestone = note

    def begin(self, title: str, total: int, unit: str = "") -> None:
        """Print what starts."""
        self.note(f"{title}: {total} {unit or _COUNTED.get(title, 'steps')}")


class BarProgress(Progress):
    """A bar with the loss, the consistency, the mask contrast and the time left."""

    def __init__(self) -> None:
        self.console = Terminal(stderr=True)
        self.bars: Bars | None = None
        self.task: TaskID | None = None

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.say(text)

    def begin(self, title: str, total: int, unit: str = "") -> None:
        """Draw a new bar."""
        del unit  # a bar shows a share
        self.bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.bars.start()
        self.task = self.bars.add_task(title, total=total, values="")

    def advance(self, values: Mapping[str, float], steps: int = 1) -> None:
        """Move the bar."""
        if self.bars is not None and self.task is not None:
            text = "  ".join(
                f"{name} {values[key]:.3f}" for key, name in _SHOWN.items() if key in values
            )
            self.bars.update(self.task, advance=steps, values=text)

    def milestone(self, text: str) -> None:
        """Print a line above the bar."""
        self.note(text)

    def end(self) -> None:
        """Leave the finished bar on the screen."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Give a table of names and numbers; all but the first column stand to the right."""
    table = Table(title=_cell(title), box=box.SIMPLE_HEAD, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(_cell(column), justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> Text:
    return Text(printable(str(value)))


def left_out_tables(record: Mapping[str, Any]) -> list[Table]:
    """Give the table of what was left out of a table of events; none where nothing was."""
    from atcon.data.events import REASONS  # noqa: PLC0415  only these commands need it

    rows = [(REASONS[key], n["event"], n["clip"]) for key, n in record["left_out"].items()]
    return [plain_table("left out", ("reason", "events", "clips"), rows)] if rows else []


def division_line(division: Mapping[str, Any]) -> str:
    """Say where the splits come from, and how balanced those of a search are."""
    if division["from"] != "search":
        return f"splits: as in the {division['from']}"
    return (
        f"splits: by patient; no share of a class in a split is further than "
        f"{100 * division['worst']:.0f} percentage points from its aim"
    )


def show_evaluation(record: Mapping[str, Any]) -> None:
    """Print before, after and gain as a table with intervals."""
    before, after = (record["stages"][stage] for stage in ("supervised", "consistency"))
    level = f"{100 * record['level']:.0f} %"
    judged, over = f"{record['counts']['test']} test {record.get('unit', 'images')}", "them"
    if record.get("resampled") == "groups":
        judged, over = f"{judged} of {record['test_groups']} groups", "whole groups"
    table = Table(title=f"{judged}, {level} intervals over {over}")
    for column in ("", "supervised", "after consistency", "gain", "p"):
        table.add_column(column, justify="left" if not column else "right")
    for key, name in _ROWS:
        gain = record["gain"].get(key)
        if gain is not None:
            table.add_row(
                name, _with_interval(before, key), _with_interval(after, key), *_change(gain, key)
            )
    Terminal().print(table)


def show_summary(summary: Mapping[str, Any], report: Path) -> None:
    """Print the result of a run: the table, the controls, the verdict, where the report is."""
    show_evaluation(summary)
    console = Terminal()
    after = summary["stages"]["consistency"]
    for control, title in _CONTROLS.items():
        gains = summary["controls"].get(control, {}).get("gain", {})
        text = ", ".join(
            f"{name} {_change(gains[key], key)[0]}" for key, name in _ROWS if gains.get(key)
        )
        if text:
            console.say(f"control, {title}: {text}")
    for arm in summary["arms"].values():
        text = ", ".join(
            f"{name} {_change(arm['gain'][key], key)[0]}"
            for key, name in _ROWS
            if arm["gain"].get(key)
        )
        console.say(f"alternative, {arm['title']}: {text}")
    epoch = after["epoch"]
    kept = f"epoch {epoch:g} of {after['epochs']}" if after["kept"] else "the start"
    console.say(f"kept: {kept} of fine-tuning; Grad-CAM at {summary['model']['layer']}")
    console.say(summary["verdict"]["sentence"], "bold")
    console.say(f"report: {report}")


def _with_interval(stage: Mapping[str, Any], key: str) -> str:
    value, interval = stage["test"][key], stage["intervals"][key]
    if value is None or interval is None:
        return "–"
    digits = 3 if key == "consistency" else 1
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _change(gain: Mapping[str, float], key: str) -> tuple[str, str]:
    digits = 3 if key == "consistency" else 1
    interval = f"{gain['low']:+.{digits}f} to {gain['high']:+.{digits}f}"
    return f"{gain['value']:+.{digits}f} ({interval})", f"{gain['p']:.3f}"
