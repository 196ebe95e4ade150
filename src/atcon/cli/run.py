"""`atcon run CONFIG`: the main job."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options
from atcon.errors import InputError
from atcon.plain_text import printable_json


def run(
    config: Annotated[str, typer.Argument(help="A shipped name (see atcon list) or a YAML file.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Short for --set, such as strategy=combined."
        ),
    ] = None,
    sets: options.Sets = None,
    out: options.Out = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    resume: options.Resume = False,
    no_images: options.NoImages = False,
) -> None:
    """Train, fine-tune for consistency without labels, evaluate both, and write the report."""
    overrides = options.overrides(
        [*(settings or []), *(sets or [])], seed, device, precision, no_images=no_images
    )
    execute(config, overrides, out, quiet=quiet, as_json=as_json, resume=resume)


def execute(
    source: str,
    overrides: list[str],
    out: Path | None,
    *,
    quiet: bool,
    as_json: bool,
    resume: bool,
) -> None:
    """Run a configuration, draw its report and show the result."""
    if resume and out is None:
        raise InputError("--resume continues the run in --out: give its folder")

    from atcon.cli.stopping import resumable  # noqa: PLC0415

    with resumable(lambda: "nothing was begun, so the same command starts the run"):
        from atcon.experiments.config import load_config  # noqa: PLC0415
        from atcon.experiments.dividing import started_by_torchrun  # noqa: PLC0415
        from atcon.experiments.folder import RunFolder  # noqa: PLC0415

        config = load_config(source, overrides)
        started = started_by_torchrun()
        if started is not None and out is None:
            raise InputError("under torchrun all processes write one folder: give --out")
        folder = RunFolder(out or options.default_out(config.name))

    with resumable(folder.how_to_go_on):
        from atcon.cli.display import progress_for, show_summary  # noqa: PLC0415
        from atcon.experiments.run import run as run_pipeline  # noqa: PLC0415
        from atcon.report import write_report  # noqa: PLC0415

        others = started is not None and started[0] > 0
        with progress_for(quiet=quiet or as_json or others) as progress:
            summary = run_pipeline(config, folder.root, resume=resume, progress=progress)
        if others:  # the first process shows the result
            return
        report = write_report(folder.root)
        if as_json:
            typer.echo(printable_json(summary))
        else:
            show_summary(summary, report)
