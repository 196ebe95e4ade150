"""`atcon describe EVENTS.csv`: how many events of what length, of how many patients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atcon.cli import options
from atcon.plain_text import printable_json

_COLUMNS = ("mean", "median", "std", "total")


def describe(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS.csv",
            help="A table of events as for atcon clips, or a folder of clips that it made. "
            "Recordings are not opened.",
        ),
    ],
    shares: Annotated[
        str | None,
        typer.Option(
            "--shares",
            help="Of train,validation,test: divide a table without splits as atcon clips would.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of that division.")] = 0,
    on_bad: Annotated[
        str, typer.Option("--on-bad", help="Rows that cannot be used: skip or error.")
    ] = "skip",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write the tables to this file.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Describe events by class and split: number, length (mean, median, ...), patients."""
    from atcon.experiments.describe import (  # noqa: PLC0415
        check_writable,
        describe_source,
        write_tables,
    )

    if csv is not None:
        check_writable(csv)
    divided = None if shares is None else options.shares_of(shares)
    record = describe_source(source, shares=divided, seed=seed, on_bad=on_bad)
    if csv is not None:
        write_tables(csv, record)
    if as_json:
        typer.echo(printable_json(record))
    else:
        _show(record)


def _show(record: Mapping[str, Any]) -> None:
    """Print a table of all events and one per split, and what was left out and why."""
    from atcon.cli.display import division_line, left_out_tables  # noqa: PLC0415
    from atcon.cli.terminal import Terminal  # noqa: PLC0415

    console = Terminal()
    for part in record["tables"]:
        console.print(_table(record, part))
    for table in left_out_tables(record):
        console.print(table)
    division = record["division"]
    lines = [division_line(division)] if division else ["splits: the table has none; see --shares"]
    if record["undivided"]:
        lines.append(f"{record['undivided']} events of patients without a whole clip: in no split")
    lines += [f"skipped {entry['message']}" for entry in record["skipped"]]
    for line in lines:
        console.say(line)


def _table(record: Mapping[str, Any], part: str) -> Any:
    from atcon.cli.display import plain_table  # noqa: PLC0415

    table = record["tables"][part]
    rows = [*table["classes"].items(), ("all", table["all"])]
    return plain_table(
        f"{part}, lengths in seconds",
        ("label", record["unit"], *_COLUMNS, "patients"),
        [
            (name, row["windows"], *(_seconds(row[key]) for key in _COLUMNS), row["patients"])
            for name, row in rows
        ],
    )


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
