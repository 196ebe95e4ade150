"""What an engine is given, and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atcon.experiments.folder import RunFolder
from atcon.experiments.grid import Cell, Experiment, check_record, record_path
from atcon.experiments.progress import Progress
from atcon.experiments.sections import RunConfig


@dataclass(frozen=True)
class Work:
    """An experiment, and where its cells lie; small enough to be sent to another process.

    Attributes:
        experiment: What is run.
        out: Folder of the runs.
        results: Folder of the records.
        overrides: `key=value`, for all cells.
        keep_weights: Whether the checkpoints of finished cells are kept.
        share: Whether cells share their supervised stages.
        source: The words that the experiment was asked for by; its name where there are none.
    """

    experiment: Experiment
    out: Path
    results: Path
    overrides: tuple[str, ...] = ()
    keep_weights: bool = False
    share: bool = True
    source: tuple[str, ...] = ()

    @property
    def shared(self) -> Path:
        """Where supervised stages lie that runs share."""
        return self.out / "shared"

    def config(self, cell: Cell) -> RunConfig:
        """Give the configuration of a cell's run."""
        return self.experiment.run_config(cell, self.overrides)

    def folder(self, cell: Cell) -> RunFolder:
        """Where a cell's run lies."""
        return RunFolder(self.out / self.experiment.name / cell.name)

    def record(self, cell: Cell) -> Path:
        """Where a cell's record lies, which marks it as finished."""
        return record_path(self.results, self.experiment, cell)

    def missing(self, cells: Sequence[Cell], progress: Progress | None = None) -> list[Cell]:
        """Give the cells without a record; every configuration is checked first.

        Raises:
            InputError: A configuration is wrong, or a record is of another one.
        """
        configs = {cell: self.config(cell) for cell in cells}
        found = []
        for cell, config in configs.items():
            if self.record(cell).exists():
                check_record(self.record(cell), config)
                (progress or Progress()).note(f"{cell.name}: finished already")
            else:
                found.append(cell)
        return found


@dataclass(frozen=True)
class Outcome:
    """How the computation of a cell ended.

    Attributes:
        state: "elsewhere": another process computes it now.
        reason: Why it failed.
        again: Whether another try may help; wrong input stays wrong.
    """

    state: Literal["finished", "failed", "elsewhere"]
    reason: str = ""
    again: bool = False


@dataclass(frozen=True)
class Options:
    """What only some engines look at; None is what the engine finds best.

    Attributes:
        workers: How many cells are computed at once.
        retries: How often a cell is tried again.
        threads: Processor threads of each cell.
        address: Of a Ray cluster.
        gpus: GPUs of each cell, as Ray counts them.
        sbatch: `KEY=VALUE`, for Slurm.
    """

    workers: int | None = None
    retries: int | None = None
    threads: int | None = None
    address: str | None = None
    gpus: float | None = None
    sbatch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """What an engine did.

    Attributes:
        failed: The reason for every cell that failed.
        elsewhere: The cells that other processes compute.
        text: What is to be printed instead.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    text: str = ""
