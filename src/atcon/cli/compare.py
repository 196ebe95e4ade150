"""`atcon compare RUN RUN …`: one table over finished runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atcon.cli import options
from atcon.plain_text import printable, printable_json

_DIGITS = {"consistency": 3, "mask_contrast": 3}


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Finished run folders, or folders of atcon repeat (all their seeds).",
        ),
    ],
    stages: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="NAME", help="Only these stages; may be repeated."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUN:STAGE",
            help="The row to compare with, or a stage; else the first run's supervised stage.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="May be repeated; else map, f1, f1_tuned and iou."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write the table to this file.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare runs on their common test images: paired differences, Holm-corrected p."""
    from atcon.experiments.compare import check_writable, write_table  # noqa: PLC0415
    from atcon.experiments.compare import compare as compare_runs  # noqa: PLC0415
    from atcon.experiments.compare_metrics import DEFAULT  # noqa: PLC0415

    if csv is not None:
        check_writable(csv)
    record = compare_runs(runs, stages=stages or (), against=against, metrics=metrics or DEFAULT)
    if csv is not None:
        write_table(csv, record)
    if as_json:
        typer.echo(printable_json(record))
    else:
        _show(record)


def _show(record: Mapping[str, Any]) -> None:
    """Print a table per metric, and below them what they say."""
    from atcon.cli.terminal import Terminal  # noqa: PLC0415

    console, tables = Terminal(), [_table(record, metric) for metric in record["titles"]]
    if not console.is_terminal:  # a file has no width to fit
        wide = console.options.update(width=10_000)
        needed = (console.measure(table, options=wide).maximum for table in tables)
        console = Terminal(width=max(console.width, *needed))
    for table in tables:
        console.print(table)
    for line in _legend(record):
        console.say(line)


def _table(record: Mapping[str, Any], metric: str) -> Any:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    title, digits = Text(record["titles"][metric]), _DIGITS.get(metric, 1)
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0)
    )  # fmt: skip
    table.add_column("run:stage", overflow="fold", min_width=12)
    for column in ("value", "difference", "p", "Holm"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in record["rows"]:
        here = {"run": row["run"], "stage": row["stage"]} == record["reference"]
        measured = row["metrics"][metric]
        change = ("reference", "", "") if here else _change(measured["difference"], digits)
        name = printable(f"{row['run']}:{row['stage']}")
        table.add_row(Text(name), _with_ends(measured, f".{digits}f"), *change)
    return table


def _change(difference: Mapping[str, Any] | None, digits: int) -> tuple[str, str, str]:
    """Difference, p and corrected p; a second line each where Student's t over seeds is known."""
    if difference is None:
        return "–", "", ""
    mark = "*" if difference["clear"] else " "
    lines = [(_with_ends(difference, f"+.{digits}f"), *_p_values(difference), mark)]
    if difference["over_seeds"] is not None:
        ends = _ends(difference["over_seeds"], f"+.{digits}f")
        lines.append((f"t {ends}", *_p_values(difference["over_seeds"]), " "))
    texts, p, corrected, marks = zip(*lines, strict=True)
    holm = (value + mark for value, mark in zip(corrected, marks, strict=True))
    return "\n".join(texts), "\n".join(p), "\n".join(holm)


def _p_values(tested: Mapping[str, float]) -> tuple[str, str]:
    return f"{tested['p']:.3f}", f"{tested['p_holm']:.3f}"


def _with_ends(entry: Mapping[str, Any], form: str) -> str:
    if entry["value"] is None:
        return "–"
    return f"{entry['value']:{form}} {_ends(entry, form)}"


def _ends(entry: Mapping[str, float], form: str) -> str:
    return f"({entry['low']:{form}} to {entry['high']:{form}})"


def _legend(record: Mapping[str, Any]) -> list[str]:
    seeds, reference = record["seeds"], record["reference"]
    several = len(seeds) > 1
    count = record["comparisons"]
    over = f"{record['test_images']} test {record['unit']}"
    if record["resampled"] == "groups":
        over = f"the {record['test_groups']} groups of {over}"
    if several:
        over += f" and {len(seeds)} seeds ({', '.join(map(str, seeds))})"
    family = f"the {count} comparison{'' if count == 1 else 's'} of each metric"
    lines = [
        f"{100 * record['level']:g} % intervals over {over}, {record['resamples']} resamples.",
        f"Differences are paired: row minus {reference['run']}:{reference['stage']}.",
        f"Holm: p corrected over {family}; * below 0.05{' in both lines' if several else ''}.",
    ]
    if several:
        lines.append(
            f"First line: bootstrap over seeds and {record['resampled']}. "
            "t: Student's t over the seeds."
        )
    else:
        lines.append("One training run each: what another seed would give is not in the intervals.")
    return [*lines, *(f"note: {note}" for note in record["notes"])]
