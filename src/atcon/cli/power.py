"""`atcon power RUN …` or `--experiment NAME`: how many seeds and test images a gain needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atcon.cli import options
from atcon.errors import InputError
from atcon.plain_text import printable_json

_PANEL: Any = {"rich_help_panel": "From the records of an experiment"}


def power(
    gain: Annotated[
        float, typer.Option("--gain", help="The true gain to find, in points of the metric.")
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="The pilot: finished runs of several seeds, as of atcon repeat."
        ),
    ] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="One metric.")] = "map",
    stage: Annotated[
        str, typer.Option("--stage", metavar="NAME", help="The stage that gains.")
    ] = "consistency",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUN:STAGE",
            help="What it gains over (STAGE with --experiment); else the supervised stage.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment", metavar="NAME", help="The pilot: records of its cells.", **_PANEL
        ),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Its form for the data at hand.", **_PANEL)
    ] = False,
    per_class: Annotated[
        int | None, typer.Option("--per-class", metavar="N", help="Of which size.", **_PANEL)
    ] = None,
    network: Annotated[
        str, typer.Option("--network", metavar="NAME", help="Of which network.", **_PANEL)
    ] = "",
    results: Annotated[
        Path, typer.Option("--results", help="Folder of the records of cells.", **_PANEL)
    ] = Path("results"),
    as_json: options.AsJson = False,
) -> None:
    """Say how many seeds and test images it takes to find a gain, from a few runs."""
    from atcon.experiments.grid import finished, of_network  # noqa: PLC0415
    from atcon.experiments.power import power_of_cells, power_of_runs  # noqa: PLC0415
    from atcon.experiments.shipped import experiment_of  # noqa: PLC0415

    if bool(runs) == bool(experiment):
        raise InputError("give the pilot as runs of several seeds or as --experiment NAME")
    if experiment:
        own = of_network(experiment_of(experiment, small=small), network)
        chosen = {"metric": metric, "stage": stage, "against": against or "supervised"}
        cells = dict(finished(results, own))
        record = power_of_cells(own, cells, gain, per_class=per_class, **chosen)
    else:
        record = power_of_runs(runs or [], gain, metric=metric, stage=stage, against=against)
    if as_json:
        typer.echo(printable_json(record))
    else:
        _show(record)


def _show(record: Mapping[str, Any]) -> None:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from atcon.cli.terminal import Terminal  # noqa: PLC0415

    console, wanted = Terminal(), f"{record['wanted']:.0%}"
    title = f"Chance to find a gain of {record['gain']:+g} in {record['title']}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column(f"test {record['unit']}", justify="right")
    for seeds in record["columns"]:
        table.add_column(f"{seeds} seeds", justify="right")
    table.add_column(f"seeds for {wanted}", justify="right")
    for line in record["table"]:
        shares = [f"{share:.0%}" for share in line["power"]]
        table.add_row(str(line["units"]), *shares, _needed(line["needed_seeds"]))
    needed = [_needed(units) for units in record["needed_units"].values()]
    table.add_row(f"for {wanted}", *needed, "")
    console.print(table)
    for line in _legend(record):
        console.say(line)


def _needed(count: int | None) -> str:
    return "–" if count is None else str(count)


def _legend(record: Mapping[str, Any]) -> list[str]:
    pilot = record["pilot"]
    deviations = pilot["deviations"]
    unit = record["unit"]
    learnt = (
        f"Pilot: {record['row']} minus {record['reference']}, {pilot['seeds']} seeds, "
        f"{pilot['units']} test {unit}: {pilot['value']:+.2f}; seeds differ by "
        f"{deviations['seeds']:.2f} (standard deviation), its test {unit} make it vary by "
        f"{deviations['shared']:.2f} in all seeds alike and {deviations['own']:.2f} in each."
    )
    rule = (
        f"Found: p below {record['alpha']:g} by the bootstrap over seeds and {unit} and by "
        "Student's t over the seeds, as atcon compare marks one comparison."
    )
    warning = (
        "–: no number is enough. A pilot of few seeds knows only roughly how much seeds differ: "
        "with 5 the variance may be three times too small or too large."
    )
    return [learnt, rule, warning]
