"""`atcon report RUN`: draw the report of a run again from its records."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli.share import pseudonyms


def report(
    run: Annotated[Path, typer.Argument(help="A run folder with its summary.json.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave out every picture of an image.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            "--pseudonyms",
            metavar="KEYFILE",
            help="Replace the names of images by pseudonyms, paths as well; the file holds their "
            "secret key and is made on first use.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; else RUN/report.html.")
    ] = None,
) -> None:
    """Draw report.html again from the records; needs no network, no weights and no images."""
    from atcon.report import write_report  # noqa: PLC0415

    if key is None:
        typer.echo(write_report(run, out, images=not no_images))
        return
    from atcon.sharing import write_shared_report  # noqa: PLC0415

    typer.echo(write_shared_report(run, out, pseudonyms(key, run), images=not no_images))
