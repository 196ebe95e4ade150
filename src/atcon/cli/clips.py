"""`atcon clips EVENTS.csv --out DIR`: from long recordings to a data set of clips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atcon.cli import options
from atcon.plain_text import printable_json


def clips(
    events: Annotated[
        Path,
        typer.Argument(
            help="A CSV with the columns video, patient, start, end, label and perhaps split; "
            "recordings are relative to its folder."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, or to continue.")],
    seconds: Annotated[float, typer.Option("--seconds", help="Length of a clip.")] = 4.0,
    rate: Annotated[float, typer.Option("--rate", help="Frames per second of a clip.")] = 4.0,
    size: Annotated[int, typer.Option("--size", min=1, help="Side of a frame, in pixels.")] = 80,
    stride: Annotated[
        float | None,
        typer.Option("--stride", help="Seconds from one clip to the next; else --seconds."),
    ] = None,
    short: Annotated[
        str, typer.Option("--short", help="Events shorter than a clip: skip, or pad (last frame).")
    ] = "skip",
    max_gap: Annotated[
        float | None,
        typer.Option(
            "--max-gap",
            help="Seconds that a frame may stand; else 1.5 frames, and 0.25 where the rate varies.",
        ),
    ] = None,
    shares: Annotated[
        str, typer.Option("--shares", help="Of train,validation,test, in proportion.")
    ] = "1,1,1",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the division.")] = 0,
    on_bad: Annotated[
        str, typer.Option("--on-bad", help="Events and clips that cannot be used: skip or error.")
    ] = "skip",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads; else one per core.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Cut labelled events out of long recordings, as clips that are divided by patient.

    The same command continues where it was stopped.
    """
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.cli.stopping import resumable  # noqa: PLC0415
    from atcon.data.cutting import ClipForm  # noqa: PLC0415
    from atcon.experiments.clips import make_clips  # noqa: PLC0415

    form = ClipForm(seconds, rate, size, stride, short, max_gap)
    again = resumable(lambda: f"the same command continues in {out}")
    with again, progress_for(quiet=quiet or as_json) as progress:
        record = make_clips(
            events,
            out,
            form,
            shares=options.shares_of(shares),
            seed=seed,
            on_bad=on_bad,
            workers=workers,
            progress=progress,
        )
    if as_json:
        typer.echo(printable_json(record))
    else:
        _show(record, out)


def _show(record: Mapping[str, Any], out: Path) -> None:
    """Print the parts, how balanced they are, and what was left out and why."""
    from atcon.cli.terminal import Terminal  # noqa: PLC0415

    console = Terminal()
    for table in _tables(record):
        console.print(table)
    for line in _lines(record, out):
        console.say(line)


def _tables(record: Mapping[str, Any]) -> list[Any]:
    from atcon.cli.display import left_out_tables, plain_table  # noqa: PLC0415

    parts = plain_table(
        f"{record['counts']['clips']} clips",
        ("split", "patients", "clips", *record["classes"]),
        [
            (name, part["patients"], part["clips"], *part["classes"].values())
            for name, part in record["parts"].items()
        ],
    )
    return [parts, *left_out_tables(record)]


def _lines(record: Mapping[str, Any], out: Path) -> list[str]:
    from atcon.cli.display import division_line  # noqa: PLC0415

    lines = [division_line(record["balance"])]
    lines += [
        f"no clip of {name!r} in {part}"
        for part, content in record["parts"].items()
        for name, count in content["classes"].items()
        if content["clips"] and not count
    ]
    lines += [f"skipped {entry['message']}" for entry in record["skipped"]]
    if record["kept"]:
        lines.append(f"{record['kept']} clips were there already")
    return [*lines, f"clips: {out / 'clips.csv'}"]
