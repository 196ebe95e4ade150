"""An experiment: one run for every training-set size and seed, in cells that survive a stop."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atcon import records
from atcon.errors import InputError, no_such
from atcon.experiments.cell_record import RESAMPLED
from atcon.experiments.config import load_config
from atcon.experiments.paper import Paper
from atcon.experiments.sections import FolderName, RunConfig, one_of

Table = Literal[
    "values", "gains", "validation", "calibration", "classes", "seconds", "rules",
    "lowest_quartile", "matchings", "gallery", "scatter", "lengths",
]  # fmt: skip


class Experiment(BaseModel):
    """A named grid of runs.

    Attributes:
        name: That of its cells: of the folders of its runs and of its records.
        title: One line for tables.
        protocol: What is done, in a few sentences.
        expect: What we expected before it ran, or know by now.
        config: The shipped run that every cell is.
        set: What is changed in it, by dotted key.
        networks: Several networks: what is set for each.
        per_class: The training-set sizes N.
        seeds: Of splits and training.
        against: The stages that all others are compared with, in one table each.
        rows: The stages of the paper's table, with their titles; all where it is empty.
        metrics: What is compared.
        tables: What `tables_of` shows.
        paper: The paper's numbers that stand beside ours.
        events: A table of events to describe, below the folder of data: no runs.
        called: What its page is called, where its cells are those of another; no part of the file.
        words: What the command line is given to have it; no part of the file.
        smaller: The same for its form for the data at hand; empty where that is no other form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: FolderName
    title: str
    protocol: str = ""
    expect: str = ""
    config: str = ""
    set: dict[str, Any] = {}
    networks: dict[FolderName, dict[str, Any]] = {}
    per_class: Annotated[tuple[int, ...], Field(min_length=1)] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = ()
    against: tuple[str, ...] = ("supervised",)
    rows: dict[str, str] = {}
    metrics: tuple[Annotated[str, one_of(lambda: RESAMPLED)], ...] = ("map", "f1", "iou")
    tables: tuple[Table, ...] = ("gains", "seconds")
    paper: Paper | None = None
    events: str | None = None
    called: Annotated[str, Field(exclude=True)] = ""
    words: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    smaller: Annotated[tuple[str, ...], Field(exclude=True)] = ()

    @model_validator(mode="after")
    def _has_cells(self) -> Self:
        keys = ("config", "per_class", "seeds")
        missing = [key for key in keys if not getattr(self, key)]
        if missing and "lengths" not in self.tables:
            raise ValueError(f"missing: {', '.join(missing)} (what is run is said by these)")
        return self

    @property
    def cells(self) -> list["Cell"]:
        """All cells; every seed of a size before the next size, all sizes of a network together."""
        return [
            Cell(count, seed, network)
            for network in self.networks or ("",)
            for count in self.per_class
            for seed in self.seeds
        ]

    @property
    def page_name(self) -> str:
        """Its own name, also where its cells are those of another experiment."""
        return self.called or self.name

    def command(self, *, small: bool = False) -> str:
        """Give the command that runs it, or its form for the data at hand."""
        words = self.smaller if small else self.words or (self.name,)
        return f"atcon experiment run {shlex.join(words)}"

    def run_config(self, cell: "Cell", overrides: Iterable[str] = ()) -> RunConfig:
        """Give the configuration of a cell's run.

        Raises:
            InputError: A key or a value is wrong.
        """
        changed = {**self.set, **self.networks.get(cell.network, {})}
        own = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
        axes = [f"data.per_class={cell.per_class}", f"seed={cell.seed}"]
        try:
            return load_config(self.config, [*own, *overrides, *axes])
        except InputError as error:
            raise InputError(f"experiment {self.name}: {error}") from None


@dataclass(frozen=True)
class Cell:
    """One training-set size and seed, of one network where there are several."""

    per_class: int
    seed: int
    network: str = ""

    @property
    def name(self) -> str:
        """Of its folder and its record."""
        network = f"{self.network}-" if self.network else ""
        return f"{network}n{self.per_class}-seed-{self.seed}"


def of_network(experiment: Experiment, network: str) -> Experiment:
    """Keep one network of an experiment that has several.

    Raises:
        InputError: It has several and none is named, or not this one.
    """
    if not experiment.networks and not network:
        return experiment
    if network not in experiment.networks:
        known = ", ".join(experiment.networks) or "one, which has no name"
        raise InputError(f"{experiment.name}: --network {network}: the networks are {known}")
    return experiment.model_copy(update={"networks": {network: experiment.networks[network]}})


def part_of(cells: Sequence[Cell], part: str | None) -> list[Cell]:
    """Give every K-th cell, for `I/K`: what one of K processes or machines computes.

    Raises:
        InputError: It is not written so.
    """
    if part is None:
        return list(cells)
    index, _, count = part.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"--part {part}: write it as 1/2, the first of two")
    return list(cells[int(index) - 1 :: int(count)])


def cells_named(experiment: Experiment, names: Sequence[str] | None) -> list[Cell]:
    """Give the cells of these names; all of them where none is given.

    Raises:
        InputError: There is none of a name.
    """
    known = {cell.name: cell for cell in experiment.cells}
    for name in names or ():
        if name not in known:
            raise no_such("cell", name, known)
    return [known[name] for name in names] if names else experiment.cells


def record_path(results: Path, experiment: Experiment, cell: Cell) -> Path:
    """Where the record of a cell lies."""
    return results / experiment.name / f"{cell.name}.json"


def finished(
    results: Path, experiment: Experiment, overrides: Sequence[str] = ()
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Give the cells that have a record, with it.

    Raises:
        InputError: A record is damaged, or of another configuration.
    """
    for cell in experiment.cells:
        path = record_path(results, experiment, cell)
        if path.exists():
            yield cell, check_record(path, experiment.run_config(cell, overrides))


def check_record(path: Path, config: RunConfig) -> dict[str, Any]:
    """Read a record and see whether it is of this configuration.

    Raises:
        InputError: It is not.
    """
    record = records.read_json(path)
    if record.get("configuration") != fingerprint(config):
        raise InputError(
            f"{path} was made with another configuration: remove it to compute the cell anew, or "
            "give the --set values that it was made with"
        )
    return record


def fingerprint(config: RunConfig) -> str:
    """SHA-256 of what differs from the defaults, but the name and the devices.

    A key that a later version adds changes no fingerprint.
    """
    content = config.model_dump(
        mode="json", exclude={"device", "devices", "name"}, exclude_defaults=True
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
