"""Where the figures of an experiment lie, once its cells are computed."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from atcon.experiments.grid import Experiment


def draw_galleries(experiment: "Experiment", out: Path) -> None:
    """Draw the page of every finished run of an experiment of galleries, and say where it is."""
    from atcon.experiments.folder import RunFolder  # noqa: PLC0415
    from atcon.report import write_report  # noqa: PLC0415

    if "gallery" not in experiment.tables:
        return
    for cell in experiment.cells:
        folder = RunFolder(out / experiment.name / cell.name)
        if folder.summary.exists():
            typer.echo(f"{cell.name}: {write_report(folder.root)}")
