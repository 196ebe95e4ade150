"""`atcon repeat CONFIG`: the main job over several seeds."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options


def repeat(
    config: Annotated[str, typer.Argument(help="A shipped name (see atcon list) or a YAML file.")],
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="How many: 0, 1, 2, …")] = 5,
    sets: options.Sets = None,
    out: options.Out = None,
    device: options.Device = None,
    precision: options.Precision = None,
    quiet: options.Quiet = False,
    no_images: options.NoImages = False,
) -> None:
    """Run once per seed and compare over the seeds; continues where it was stopped."""
    from atcon.experiments.config import load_config  # noqa: PLC0415

    overrides = options.overrides(sets, None, device, precision, no_images=no_images)
    name = load_config(config, overrides).name

    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.cli.stopping import resumable  # noqa: PLC0415
    from atcon.experiments.repeat import repeat as repeat_run  # noqa: PLC0415
    from atcon.experiments.repeat import table  # noqa: PLC0415
    from atcon.report import write_report  # noqa: PLC0415

    folder = out or Path("runs") / f"{name}-seeds"
    with resumable(lambda: f"the same command continues in {folder}"):
        with progress_for(quiet=quiet) as progress:
            record = repeat_run(config, range(seeds), folder, overrides, progress=progress)
        for seed in record["seeds"]:
            write_report(folder / f"seed-{seed}")
    typer.echo(table(record), nl=False)
