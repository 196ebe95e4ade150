"""`atcon report RUN`: draw the report of a run again from its records."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options
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
    figures: options.Figures = None,
) -> None:
    """Draw report.html again from the records; needs no network, no weights and no images."""
    from atcon.records import check_new  # noqa: PLC0415
    from atcon.report import write_report, write_run_figures  # noqa: PLC0415

    if figures is not None:
        check_new(figures, "--figures")
    images = not no_images
    if key is None:
        typer.echo(write_report(run, out, images=images))
        if figures is not None:
            write_run_figures(run, figures, images=images)
    else:
        from atcon.sharing import write_shared_report  # noqa: PLC0415

        names = pseudonyms(key, run)
        typer.echo(write_shared_report(run, out, names, images=images, figures=figures))
    if figures is not None:
        typer.echo(figures)
