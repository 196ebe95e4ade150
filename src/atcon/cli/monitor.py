"""`atcon monitor RUN DATA`: the consistency of new data as a warning sign."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atcon.cli import options
from atcon.cli.share import pseudonyms
from atcon.plain_text import printable_json

if TYPE_CHECKING:
    from rich.table import Table

    from atcon.experiments.watch import Naming

_PARTS = {
    "validation": "validation (held out)",
    "test": "test (held out)",
    "train": "training",
    "new": "new",
}
_AUROCS = (
    ("score", "consistency"),
    ("baseline", "1 − top probability"),
    ("both", "both, mean of ranks"),
    ("difference", "consistency minus probability"),
    ("added", "both minus probability"),
)


def monitor(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="New images, with or without labels: a folder, class folders, a CSV of file and "
            "perhaps label or labels; clips of atcon clips; or a configuration (YAML) whose data "
            "are meant."
        ),
    ],
    csv: Annotated[
        str | None, typer.Option("--csv", help="A CSV of labels for the folder DATA.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Whom an image was taken of: as data.group, for DATA."),
    ] = None,
    part: Annotated[
        str,
        typer.Option("--part", help="Of a configuration's data: all, train, validation or test."),
    ] = "all",
    stage: Annotated[
        str | None,
        typer.Option("--stage", help="Whose network; else that of the stage consistency."),
    ] = None,
    least: Annotated[
        int, typer.Option("--least", min=0, help="How many of those that agree least are listed.")
    ] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for monitor.json and samples.csv."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--pseudonyms",
            metavar="KEYFILE",
            help="Replace names, groups and paths by pseudonyms; as in atcon share.",
        ),
    ] = None,
    sets: options.Sets = None,
    device: options.Device = None,
    precision: options.Precision = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Say whether new data look like the run's own, by how well the network's maps agree.

    Ends with 0, with 1 if the new data agree less (a warning), with 2 if something is wrong.
    """
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.experiments.watch import watch, write_watched  # noqa: PLC0415
    from atcon.experiments.watch_verdict import WARNING  # noqa: PLC0415
    from atcon.records import check_new  # noqa: PLC0415

    if out is not None:
        check_new(out)
    with progress_for(quiet=quiet or as_json) as progress:
        watched = watch(
            run,
            data,
            stage=stage,
            csv=csv,
            group=group,
            part=part,
            least=least,
            overrides=options.overrides(sets, None, device, precision),
            naming=None if key is None else _pseudonymous(key, run, out),
            progress=progress,
        )
    if out is not None:
        write_watched(out, watched)
    if as_json:
        typer.echo(printable_json(watched.record))
    else:
        _show(watched.record)
    if watched.record["verdict"]["outcome"] == WARNING:
        raise typer.Exit(1)


def _pseudonymous(key: Path, run: Path, out: Path | None) -> "Naming":
    """Give the pseudonyms of a key for what is written of a run."""
    from atcon import records  # noqa: PLC0415
    from atcon.experiments.watch import Naming  # noqa: PLC0415
    from atcon.sharing import cause  # noqa: PLC0415

    clips = records.read_json(run / "summary.json").get("unit") == "clips"
    names = pseudonyms(key, run, *([] if out is None else [out])).of("clip" if clips else "image")
    return Naming(names.image, names.group, names.text, cause)


def _show(record: Mapping[str, Any]) -> None:
    """Print the distributions, the verdict, the samples that agree least, and the errors."""
    from atcon.cli.terminal import Terminal  # noqa: PLC0415
    from atcon.experiments.watch_verdict import WARNING  # noqa: PLC0415

    console = Terminal()
    if not console.is_terminal:  # a file has no width to fit
        console = Terminal(width=160)
    console.print(_distributions(record))
    warned = record["verdict"]["outcome"] == WARNING
    console.say(record["verdict"]["sentence"], "bold yellow" if warned else "bold")
    for name, found in record["shift"].items():
        if name != record["verdict"]["against"]:
            line = (
                f"Beside the {_PARTS[name]} {record['unit']}, which it was trained on: "
                f"{100 * found['less']:.0f} of 100."
            )
            console.say(line)
    if record["least"]:
        console.print(_least(record))
    if record["errors"] is not None:
        _show_errors(console, record["errors"])
    for note in record["notes"]:
        console.say(f"note: {note}")


def _distributions(record: Mapping[str, Any]) -> "Table":
    from atcon.cli.display import plain_table  # noqa: PLC0415

    found = record["consistency"]
    shares = list(found["new"]["quantiles"])
    rows = [
        (
            _PARTS[name],
            each["count"] if each["groups"] is None else f"{each['count']} of {each['groups']}",
            f"{each['mean']:.3f}",
            *(f"{value:.3f}" for value in each["quantiles"].values()),
        )
        for name, each in found.items()
    ]
    head = (record["unit"], "number", "mean", *(f"{share} %" for share in shares))
    return plain_table(f"consistency under {record['stage']}", head, rows)


def _least(record: Mapping[str, Any]) -> "Table":
    from atcon.cli.display import plain_table  # noqa: PLC0415

    rows = [
        (
            row["name"],
            f"{row['consistency']:.3f}",
            row["predicted"],
            f"{100 * row['probability']:.0f} %",
            "" if row["correct"] is None else ("wrong", "right")[row["correct"]],
        )
        for row in record["least"]
    ]
    head = ("agree least", "consistency", "predicted", "probability", "")
    return plain_table("", head, rows)


def _show_errors(console: Any, errors: Mapping[str, Any]) -> None:
    from atcon.cli.display import plain_table  # noqa: PLC0415

    told = f"{errors['errors']} of {errors['judged']} answers with a known class are wrong"
    if errors["undefined"] is not None:
        console.say(f"Predicting errors is not defined: {errors['undefined']}.")
        return
    rows = [(title, *_interval(errors[key])) for key, title in _AUROCS if errors[key]]
    console.print(plain_table(f"AUROC for errors ({told})", ("", "AUROC", "interval", "p"), rows))
    console.say(errors["sentence"])


def _interval(found: Mapping[str, float | None]) -> tuple[str, str, str]:
    signed = "+" if "p" in found else ""
    value, low, high = (found[key] for key in ("value", "low", "high"))
    ends = "" if low is None else f"{low:{signed}.3f} to {high:{signed}.3f}"
    return f"{value:{signed}.3f}", ends, f"{found['p']:.3f}" if "p" in found else ""
