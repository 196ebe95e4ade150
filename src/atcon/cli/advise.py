"""`atcon advise CONFIG`: whether the method helps on one's own data, and up to which size."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atcon.cli import options
from atcon.cli.experiment import show_ended
from atcon.errors import InputError
from atcon.plain_text import printable_json

if TYPE_CHECKING:
    from atcon.experiments.advise_plan import Plan
    from atcon.experiments.engines.work import Work


def advise(
    config: Annotated[str, typer.Argument(help="A shipped name (see atcon list) or a YAML file.")],
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="N,N,…",
            help="Images of each class; else a sixteenth to a half of what the data give.",
        ),
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", help="How many: 0, 1, 2, …")] = 5,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="N", help="The size to decide on; else all the data give."),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="map, f1, f1_tuned or iou.")
    ] = "map",
    least_gain: Annotated[
        float, typer.Option("--least-gain", help="The smallest gain that matters, in points.")
    ] = 0.5,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Share of the verdicts that are right.")
    ] = 0.9,
    control: Annotated[
        bool, typer.Option("--control", help="Also say whether it beats the uniform mask.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    sets: options.Sets = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write or continue; else runs/advise-….")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="here, processes, ray, or slurm (prints a script).")
    ] = "here",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at once.")] = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train on small parts of the data with and without the method, and say whether it helps.

    The same command continues after a stop; with more --seeds or --sizes it runs what is missing.
    """
    from atcon.evaluation import Rule  # noqa: PLC0415
    from atcon.experiments.advise_plan import plan_of  # noqa: PLC0415
    from atcon.experiments.engines.work import Options, Work  # noqa: PLC0415

    rule = Rule(least_gain, confidence)
    given = options.overrides(sets, None, device, None)
    plan = plan_of(
        config, given, sizes=_sizes_of(sizes), seeds=seeds, at=at, control=control, metric=metric
    )
    folder = out or Path("runs") / f"advise-{plan.experiment.name.removesuffix('-control')}"
    file = folder / f"{plan.experiment.name}.yaml"
    work = Work(plan.experiment, folder / "runs", folder / "records", source=(str(file),))
    if dry_run:
        _show_plan(plan, work)
        return
    if not _computed(work, file, engine, Options(workers=workers), quiet=quiet):
        return
    record = _recorded(plan, work, folder, rule, metric, control=control)
    if as_json:
        typer.echo(printable_json(record))
    else:
        _show(record, folder)


def _sizes_of(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"--sizes: {text!r} is not a list of numbers, such as 2,4,8") from None


def _show_plan(plan: "Plan", work: "Work") -> None:
    missing = work.missing(plan.experiment.cells)
    whole = len(plan.experiment.cells)
    for size, steps in plan.steps.items():
        typer.echo(f"N = {size}: {len(plan.experiment.seeds)} runs, {steps} training steps")
    typer.echo(
        f"{len(missing)} of {whole} runs are to be computed; verdict at N = {plan.asked}, the data "
        f"can give {plan.largest}"
    )
    done = set(plan.experiment.cells) - set(missing)
    if done:
        from atcon.records import read_json  # noqa: PLC0415

        spent = sum(read_json(work.record(cell))["seconds"]["total"] for cell in done)
        share = sum(plan.steps[cell.per_class] for cell in done)
        left = sum(plan.steps[cell.per_class] for cell in missing)
        typer.echo(f"about {spent * left / share / 60:.0f} minutes, as the finished ones took")


def _computed(work: "Work", file: Path, engine: str, how: Any, *, quiet: bool) -> bool:
    """Compute what is missing; False: nothing is to be said yet."""
    import yaml  # noqa: PLC0415

    from atcon import records  # noqa: PLC0415
    from atcon.cli.display import progress_for  # noqa: PLC0415
    from atcon.cli.stopping import resumable  # noqa: PLC0415
    from atcon.experiments.engines.table import run_cells  # noqa: PLC0415

    work.missing(work.experiment.cells)  # a wrong configuration is said before anything is written
    content = work.experiment.model_dump(mode="json", exclude_defaults=True)
    records.write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    with resumable(lambda: "the same command continues"), progress_for(quiet=quiet) as progress:
        cells = work.experiment.cells
        ended = run_cells(work, cells, engine=engine, options=how, progress=progress)
    show_ended(ended, None)
    return not (ended.text or ended.elsewhere)


def _recorded(
    plan: "Plan", work: "Work", folder: Path, rule: Any, metric: str, *, control: bool
) -> dict[str, Any]:
    """Write the record of the advice and the page of its runs."""
    from atcon import records  # noqa: PLC0415
    from atcon.experiments.advise import advice_of  # noqa: PLC0415
    from atcon.experiments.grid import finished  # noqa: PLC0415
    from atcon.experiments.grid_page import page_of  # noqa: PLC0415
    from atcon.report import write_experiment_report  # noqa: PLC0415

    cells = dict(finished(work.results, work.experiment))
    record = advice_of(plan, cells, rule, metric=metric, control=control)
    records.write_json(folder / "advice.json", record)
    write_experiment_report(page_of(work.experiment, cells), folder / "report.html")
    return record


def _show(record: Mapping[str, Any], folder: Path) -> None:
    from atcon.cli.display import plain_table  # noqa: PLC0415
    from atcon.cli.terminal import Terminal  # noqa: PLC0415
    from atcon.experiments.advise_text import sentences  # noqa: PLC0415

    console = Terminal()
    span = "{value:+.1f} ({low:+.1f} to {high:+.1f})"
    rows = [
        (name, *(span.format_map(one) for one in found["sizes"]))
        for name, found in record["against"].items()
    ]
    head = ("over", *(f"N = {size}" for size in record["sizes"]))
    console.print(plain_table(f"Gain in {record['title']}, points", head, rows))
    for line in sentences(record):
        console.say(line)
    console.say(f"record: {folder / 'advice.json'}, page: {folder / 'report.html'}")
