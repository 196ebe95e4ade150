"""`atcon evaluate RUN`: evaluate the networks of a finished run again."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options
from atcon.plain_text import printable_json


def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    sets: options.Sets = None,
    out: options.Out = None,
    device: options.Device = None,
    precision: options.Precision = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate again on the run's test images, or on others (--set data.root=…)."""
    from atcon.cli.display import progress_for, show_evaluation  # noqa: PLC0415
    from atcon.experiments.finished import evaluate as evaluate_run  # noqa: PLC0415

    overrides = options.overrides(sets, None, device, precision)
    with progress_for(quiet=quiet or as_json) as progress:
        result = evaluate_run(run, overrides, out=out, progress=progress)
    if as_json:
        typer.echo(printable_json(result))
    else:
        show_evaluation(result)
