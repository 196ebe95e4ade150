"""`atcon attend RUN IMAGE …`: the maps of new images or clips, as pictures and as numbers."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options
from atcon.plain_text import printable, printable_json


def attend(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    images: Annotated[
        list[Path],
        typer.Argument(help="Image files; for a run on clips, recordings or clip files."),
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the pictures.")],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME",
            help="A map of `atcon list maps`, or mask; again for more. By default grad_cam, "
            "guided_backprop and mask. rise and occlusion take 500 and some 225 forward passes "
            "for each image and stage.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="The layer to explain; else the run's.")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option("--stage", help="supervised, consistency; both by default.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="The class to explain; else the top predicted.")
    ] = None,
    start: Annotated[
        float, typer.Option("--start", min=0, help="Where in a recording the clip begins: seconds.")
    ] = 0.0,
    device: options.Device = None,
    precision: options.Precision = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what the networks of a run look at: a picture per image, the numbers in index.json.

    Of a clip the picture is a strip of its frames, and there is a film (MP4) for each stage.
    """
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.experiments.attend import attend as attend_images  # noqa: PLC0415
    from atcon.experiments.gallery import STAGES  # noqa: PLC0415
    from atcon.experiments.judge import MAPS  # noqa: PLC0415
    from atcon.report import write_films, write_sheets  # noqa: PLC0415

    entries = attend_images(
        run,
        images,
        out,
        maps=maps or MAPS,
        stages=stage or STAGES,
        label=label,
        layer=layer,
        start=start,
        overrides=options.overrides(None, None, device, precision),
        progress=progress_for(quiet=quiet or as_json),
    )
    sheets, films = write_sheets(out), write_films(out)
    if as_json:
        typer.echo(printable_json(entries))
        return
    for entry, sheet in zip(entries, sheets, strict=True):
        answers = "; ".join(
            f"{name}: {answer['explained']} "
            f"({100 * answer['probabilities'][answer['explained']]:.0f} %), "
            f"consistency {answer['correlation']:.2f}"
            for name, answer in entry["stages"].items()
        )
        typer.echo(printable(f"{entry['name']} -> {sheet} ({answers})"))
    for film in films:
        typer.echo(f"film -> {film}")
