"""`atcon experiment report NAME`: one page of all finished cells, from their records alone."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.cli import options


def report(
    name: Annotated[str, typer.Argument(help="A shipped experiment, or a YAML file of your own.")],
    small: Annotated[
        bool, typer.Option("--small", help="The form for the data at hand, not the paper's.")
    ] = False,
    network: Annotated[
        str, typer.Option("--network", metavar="NAME", help="Which one, where there are several.")
    ] = "",
    sets: options.Sets = None,
    results: Annotated[
        Path, typer.Option("--results", help="Folder of the records of cells.")
    ] = Path("results"),
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of the runs: why cells failed is read there.")
    ] = options.RUNS,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page to write; else NAME.html.")
    ] = None,
    figures: options.Figures = None,
) -> None:
    """Draw one page of an experiment: state, gains against N, tables, seconds; needs no images."""
    from atcon.experiments.engines.states import failures_of  # noqa: PLC0415
    from atcon.experiments.engines.work import Work  # noqa: PLC0415
    from atcon.experiments.grid import finished, of_network  # noqa: PLC0415
    from atcon.experiments.grid_page import page_of  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415
    from atcon.records import check_new  # noqa: PLC0415
    from atcon.report import write_experiment_figures, write_experiment_report  # noqa: PLC0415

    if figures is not None:
        check_new(figures, "--figures")
    experiment = of_network(experiment_of(name, small=small), network)
    records = dict(finished(results, experiment, sets or ()))
    failed = failures_of(Work(experiment, runs, results, tuple(sets or ())))
    page = page_of(experiment, records, failed)
    typer.echo(write_experiment_report(page, out or Path(f"{experiment.page_name}.html")))
    if figures is not None:
        write_experiment_figures(page, figures)
        typer.echo(figures)
