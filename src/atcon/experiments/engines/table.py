"""The engines by name, and what each of them looks at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from atcon.errors import InputError, no_such
from atcon.experiments.dividing import started_by_torchrun
from atcon.experiments.engines.here import run_here
from atcon.experiments.engines.on_ray import run_on_ray
from atcon.experiments.engines.processes import run_in_processes
from atcon.experiments.engines.slurm import print_for_slurm
from atcon.experiments.engines.work import Ended, Options, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress
from atcon.experiments.shared import release
from atcon.experiments.sources import check_sources


@dataclass(frozen=True)
class Engine:
    """A way to compute cells.

    Attributes:
        title: Where they are computed.
        run: Computes them.
        options: The options that it looks at.
        local: Whether it reads the data on this machine.
    """

    title: str
    run: Callable[[Work, Sequence[Cell], Options, Progress], Ended]
    options: frozenset[str] = frozenset()
    local: bool = False


ENGINES: dict[str, Engine] = {
    "here": Engine("this process", run_here, local=True),
    "processes": Engine(
        "processes of this machine",
        run_in_processes,
        frozenset({"workers", "retries", "threads"}),
        local=True,
    ),
    "ray": Engine(
        "a Ray cluster",
        run_on_ray,
        frozenset({"workers", "retries", "threads", "address", "gpus"}),
    ),
    "slurm": Engine(
        "nowhere: prints a script for sbatch", print_for_slurm, frozenset({"threads", "sbatch"})
    ),
}
"""What `--engine` takes."""


def run_cells(
    work: Work,
    cells: Sequence[Cell],
    *,
    engine: str = "here",
    options: Options | None = None,
    progress: Progress | None = None,
) -> Ended:
    """Compute the cells that have no record yet; one that was cut short is continued.

    Shared supervised stages are removed once all cells of the experiment are finished, unless
    weights are kept or another experiment uses them.

    Raises:
        InputError: The configuration is wrong, a record is of another one, the data are missing,
            or an option does not belong to the engine.
    """
    if engine not in ENGINES:
        raise no_such("engine", engine, ENGINES)
    if started_by_torchrun() is not None:
        raise InputError("start an experiment without torchrun: it starts its processes itself")
    options, progress = options or Options(), progress or Progress()
    _check(engine, options)
    missing = work.missing(cells, progress)
    if ENGINES[engine].local:
        _check_sources(work, missing)
    ended = ENGINES[engine].run(work, missing, options, progress)
    if not work.keep_weights and all(work.record(c).exists() for c in work.experiment.cells):
        release(work.shared, work.experiment.name)
    return ended


def _check_sources(work: Work, cells: Sequence[Cell]) -> None:
    """Say once what is missing, not for every cell."""
    first = {cell.network: cell for cell in reversed(cells)}  # cells of a network share their data
    for cell in first.values():
        try:
            check_sources(work.config(cell))
        except InputError as error:
            smaller = work.experiment.command(small=True) if work.experiment.smaller else ""
            hint = f"; the form for the data at hand: {smaller}" if smaller else ""
            raise InputError(f"{work.experiment.name}: {error}{hint}") from error


def _check(engine: str, options: Options) -> None:
    for field in fields(options):
        if getattr(options, field.name) != field.default and (
            field.name not in ENGINES[engine].options
        ):
            raise InputError(f"--{field.name} has no effect with --engine {engine}")
