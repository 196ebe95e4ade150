"""`atcon report RUN`: draw the report of a run again from its records."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder with its summary.json.")],
) -> None:
    """Draw report.html again from the records; needs no network, no weights and no images."""
    from atcon.report import write_report  # noqa: PLC0415

    typer.echo(write_report(run))
