"""The list of commands; each has its own file."""

from typing import Annotated

import typer

from atcon import __version__
from atcon.cli import (
    advise,
    attend,
    check,
    clips,
    compare,
    configs,
    data,
    demo,
    describe,
    evaluate,
    experiment,
    monitor,
    power,
    repeat,
    report,
    run,
    share,
    tables,
)

app = typer.Typer(
    name="atcon",
    help="Attention consistency for vision models: train, fine-tune without labels, and see "
    "whether it helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atcon {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("repeat")(repeat.repeat)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("power")(power.power)
app.command("advise")(advise.advise)
app.add_typer(experiment.app, name="experiment")
app.command("attend")(attend.attend)
app.command("monitor")(monitor.monitor)
app.command("clips")(clips.clips)
app.command("describe")(describe.describe)
app.command("check")(check.check)
app.add_typer(data.app, name="data")
app.command("report")(report.report)
app.command("share")(share.share)
app.command("list")(tables.list_table)
app.command("show")(configs.show)
app.command("copy")(configs.copy)
