"""`atcon experiment …`: named grids of runs over training-set sizes and seeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atcon.cli import experiment_report, options
from atcon.cli.galleries import draw_galleries
from atcon.errors import InputError
from atcon.plain_text import printable

if TYPE_CHECKING:
    from atcon.experiments.engines.work import Ended

app = typer.Typer(
    help="Named experiments: a grid of runs that continues where it stopped.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="A shipped experiment, or a YAML file of your own.")]
Runs = Annotated[Path, typer.Option("--out", help="Folder of the runs.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the records of cells.")]
Small = Annotated[
    bool, typer.Option("--small", help="The form for the data at hand, not the paper's full one.")
]
_PANEL: Any = {"rich_help_panel": "Where cells are computed"}


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
    out: Runs = options.RUNS,
    results: Results = Path("results"),
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/K", help="Every K-th cell, from the I-th: one process."),
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="This cell only; may be given several times."),
    ] = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights", help="Keep the checkpoints of finished cells, and shared stages."
        ),
    ] = False,
    no_share: Annotated[
        bool,
        typer.Option("--no-share", help="Train the supervised stage of every cell on its own."),
    ] = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", help="here, processes, ray, or slurm (prints a script).", **_PANEL
        ),
    ] = "here",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Cells at once; 2 for processes.", **_PANEL),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option("--retries", min=0, help="Further tries of a cell that failed; 1.", **_PANEL),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Processor cores of each cell.", **_PANEL),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Of a Ray cluster: auto, HOST:PORT, or local to start one.", **_PANEL
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option("--gpus", min=0, help="GPUs of each cell on Ray; 0.", **_PANEL),
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            metavar="KEY=VALUE",
            help="For Slurm, such as partition=gpu, time=02:00:00, gpus=1.",
            **_PANEL,
        ),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option("--script", help="File for Slurm's script; else it is printed.", **_PANEL),
    ] = None,
) -> None:
    """Compute the cells that have no record yet; the same command continues after a stop."""
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.cli.stopping import resumable  # noqa: PLC0415
    from atcon.experiments.engines.table import run_cells  # noqa: PLC0415
    from atcon.experiments.engines.work import Options, Work  # noqa: PLC0415
    from atcon.experiments.grid import cells_named, part_of  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    source = (name, *(["--small"] if small else []))
    given = tuple(options.overrides(sets, None, device, None))
    work = Work(experiment, out, results, given, keep_weights, not no_share, source)
    chosen = part_of(cells_named(experiment, cells), part)
    how = Options(workers, retries, threads, address, gpus, tuple(sbatch or ()))
    with resumable(lambda: "the same command continues"), progress_for(quiet=quiet) as progress:
        ended = run_cells(work, chosen, engine=engine, options=how, progress=progress)
    if not ended.text:
        draw_galleries(experiment, out)
    show_ended(ended, script)


def show_ended(ended: "Ended", script: Path | None) -> None:
    """Print or write what is to be submitted, and say what was not computed.

    Raises:
        InputError: Cells failed.
    """
    from atcon import records  # noqa: PLC0415

    if ended.text and script is None:
        typer.echo(ended.text, nl=False)
    elif ended.text and script is not None:
        records.write_text(script, ended.text)
    if ended.elsewhere:
        cells = ", ".join(ended.elsewhere)
        typer.echo(f"atcon: other processes compute {cells}", err=True)
    if ended.failed:
        said = "\n  ".join(f"{cell}: {reason}" for cell, reason in ended.failed.items())
        raise InputError(
            f"{len(ended.failed)} cells failed; the same command tries again\n  {said}"
        )


@app.command()
def status(
    name: Name,
    small: Small = False,
    sets: options.Sets = None,
    out: Runs = options.RUNS,
    results: Results = Path("results"),
) -> None:
    """Say which cells are finished, running, failed or missing."""
    from collections import Counter  # noqa: PLC0415

    from atcon.experiments.engines.states import states_of  # noqa: PLC0415
    from atcon.experiments.engines.work import Work  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    states = states_of(Work(experiment, out, results, tuple(sets or ())))
    rows: dict[str, list[str]] = {}
    for cell, state in states.items():
        network = f"{cell.network}, " if cell.network else ""
        mark = "" if state.name == "finished" else f" {state.name}"
        rows.setdefault(f"{network}N = {cell.per_class}", []).append(f"{cell.seed}{mark}")
    for row, marks in rows.items():
        typer.echo(f"{row}: seeds {', '.join(marks)}")
    for cell, state in states.items():
        if state.reason:
            typer.echo(printable(f"{cell.name} failed: {state.reason}"))
    counts = Counter(state.name for state in states.values())
    more = "".join(f", {counts[name]} {name}" for name in ("running", "failed") if counts[name])
    typer.echo(f"{counts['finished']} of {len(states)} cells are finished{more}")


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
    from atcon.records import write_text  # noqa: PLC0415

    experiment = experiment_of(name, small=small)
    drawn = drawn_as(form, experiment, dict(finished(results, experiment, sets or ())), against)
    if out is None:
        typer.echo(drawn, nl=False)
        return
    write_text(out, drawn)
    typer.echo(f"table: {out}")


app.command("report")(experiment_report.report)
