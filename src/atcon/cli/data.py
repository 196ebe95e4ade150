"""`atcon data check ROOT|CONFIG`: what in a data set would harm an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atcon.cli import options
from atcon.errors import InputError
from atcon.plain_text import printable

if TYPE_CHECKING:
    from atcon.data.checks import DataCheck

app = typer.Typer(help="Data sets, before they are used.", no_args_is_help=True)

_COLOURS = {"note": "cyan", "warning": "yellow", "harm": "bold red"}


@app.callback()
def _group() -> None:
    """Keep `check` a sub-command although it is the only one."""


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ROOT|CONFIG",
            help="Data (class folders, VOC, SVHN, XML, a saved set of datasets, clips, a CSV of "
            "events), or a configuration as for atcon run.",
        ),
    ],
    csv: Annotated[
        str | None, typer.Option("--csv", help="Labels of the folder; short for --set data.csv=.")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option("--boxes", help="Boxes; short for --set data.boxes=.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Groups; short for --set data.group=.")
    ] = None,
    sets: options.Sets = None,
    seed: options.Seed = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all findings, with full lists, here.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Read everything once and report unreadable files, duplicates, leaks, balance, boxes, sizes.

    Ends with 0 if nothing would harm an experiment, with 1 if something would, with 2 if there are
    no such data.
    """
    if json_file is not None and json_file.is_dir():
        raise InputError(f"--json {json_file}: is a folder; name a file")

    from atcon import records  # noqa: PLC0415
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.experiments.data_check import check as check_source  # noqa: PLC0415

    short = {"data.csv": csv, "data.boxes": boxes, "data.group": group}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    overrides = options.overrides([*(sets or []), *given], seed, None, None)
    found = check_source(source, overrides, progress=progress_for(quiet=quiet))
    if json_file is not None:
        records.write_json(json_file, {"checked": source, "set": overrides, **found.to_record()})
    _show(found)
    if not found.ok:
        raise typer.Exit(1)


def _show(found: "DataCheck") -> None:
    """Print the findings, the worst first, and the verdict."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from atcon.cli.terminal import Terminal  # noqa: PLC0415

    console = Terminal()
    counts = ", ".join(f"{count:,} {part}" for part, count in found.counts.items())
    console.say(f"{found.root or found.data}: {counts} {found.unit}", "bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in found.findings:
        text = Text(printable(finding.what))
        if finding.fix:
            text.append(f"\n-> {finding.fix}", style="italic")
        colour = _COLOURS[finding.severity]
        table.add_row(Text(finding.severity, style=colour), Text(finding.name), text)
    console.print(table)
    console.say(found.verdict, _COLOURS.get(found.severity or "", "green"))
