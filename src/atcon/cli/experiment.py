"""`atcon experiment …`: named grids of runs over training-set sizes and seeds."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import experiment_report, options
from atcon.cli.galleries import draw_galleries
from atcon.errors import InputError

app = typer.Typer(
    help="Named experiments: a grid of runs that continues where it stopped.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="A shipped experiment, or a YAML file of your own.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records of cells.")]
Small = Annotated[
    bool, typer.Option("--small", help="The form for the data at hand, not the paper's full one.")
]


@app.command("list")
def list_all() -> None:
    """List the shipped experiments."""
    from atcon.experiments.shipped import experiments  # noqa: PLC0415

    known = experiments()
    width = max(map(len, known))
    for name, one in known.items():
        typer.echo(f"{name.ljust(width)}  {one.title}")


@app.command()
def show(name: Name, small: Small = False) -> None:
    """Print what an experiment runs, what is expected of it, and where the paper's numbers are."""
    import yaml  # noqa: PLC0415

    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    content = experiment_of(name, small=small).model_dump(mode="json", exclude_defaults=True)
    typer.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def run(
    name: Name,
    small: Small = False,
    sets: options.Sets = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs.")] = Path(
        "runs/experiments"
    ),
    results: Results = Path("results"),
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/K", help="Every K-th cell, from the I-th: one process."),
    ] = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the checkpoints of finished cells.")
    ] = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Compute the cells that have no record yet; the same command continues after a stop."""
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.experiments.engines.here import run_cells  # noqa: PLC0415
    from atcon.experiments.grid import part_of  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    try:
        with progress_for(quiet=quiet) as progress:
            failed = run_cells(
                experiment,
                part_of(experiment.cells, part),
                out=out,
                results=results,
                overrides=options.overrides(sets, None, device, None),
                keep_weights=keep_weights,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("\natcon: stopped; the same command continues", err=True)
        raise typer.Exit(130) from None
    draw_galleries(experiment, out)
    if failed:
        said = "\n  ".join(f"{cell}: {reason}" for cell, reason in failed.items())
        raise InputError(f"{len(failed)} cells failed; the same command tries again\n  {said}")


@app.command()
def status(
    name: Name,
    small: Small = False,
    sets: options.Sets = None,
    results: Results = Path("results"),
) -> None:
    """Say which cells have a record."""
    from atcon.experiments.grid import finished  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    done = {cell for cell, _ in finished(results, experiment, sets or ())}
    for count in experiment.per_class:
        cells = [cell for cell in experiment.cells if cell.per_class == count]
        marks = ", ".join(f"{cell.seed}{'' if cell in done else ' missing'}" for cell in cells)
        typer.echo(f"N = {count}: seeds {marks}")
    typer.echo(f"{len(done)} of {len(experiment.cells)} cells are finished")


@app.command()
def table(
    name: Name,
    small: Small = False,
    sets: options.Sets = None,
    results: Results = Path("results"),
    against: Annotated[
        str | None, typer.Option("--against", metavar="STAGE", help="What to compare with.")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORM", help="text (Markdown), csv, latex or html."),
    ] = "text",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a file instead of printing.")
    ] = None,
) -> None:
    """Print the tables of the finished cells, from the records alone.

    As text all of them; in the other forms the table of the paper, its numbers beside ours.
    """
    from atcon.experiments.grid import finished  # noqa: PLC0415
    from atcon.experiments.grid_tables import drawn_as  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415
    from atcon.records import whole_file  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    drawn = drawn_as(form, experiment, dict(finished(results, experiment, sets or ())), against)
    if out is None:
        typer.echo(drawn, nl=False)
        return
    with whole_file(out) as part:
        part.write_text(drawn, encoding="utf-8")
    typer.echo(f"table: {out}")


app.command("report")(experiment_report.report)
