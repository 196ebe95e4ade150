"""An experiment: one run for every training-set size and seed, in cells that survive a stop."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atcon import records
from atcon.errors import InputError, no_such
from atcon.experiments.config import load_config
from atcon.experiments.sections import RunConfig

Table = Literal[
    "values",
    "gains",
    "validation",
    "calibration",
    "seconds",
    "rules",
    "lowest_quartile",
    "matchings",
    "gallery",
    "scatter",
]


class Experiment(BaseModel):
    """A named grid of runs.

    Attributes:
        name: Also that of the folder of its records.
        title: One line for tables.
        config: The shipped run that every cell is.
        set: What is changed in it, by dotted key.
        per_class: The training-set sizes N.
        seeds: Of splits and training.
        against: The stages that all others are compared with, in one table each.
        metrics: What is compared.
        tables: What `tables_of` shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    config: str
    set: dict[str, Any] = {}
    per_class: Annotated[tuple[int, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    against: tuple[str, ...] = ("supervised",)
    metrics: tuple[str, ...] = ("map", "f1", "iou")
    tables: tuple[Table, ...] = ("gains", "seconds")

    @property
    def cells(self) -> list["Cell"]:
        """All cells; every seed of a size before the next size."""
        return [Cell(count, seed) for count in self.per_class for seed in self.seeds]

    def run_config(self, cell: "Cell", overrides: Iterable[str] = ()) -> RunConfig:
        """Give the configuration of a cell's run.

        Raises:
            InputError: A key or a value is wrong.
        """
        own = [f"{key}={json.dumps(value)}" for key, value in self.set.items()]
        axes = [f"data.per_class={cell.per_class}", f"seed={cell.seed}"]
        return load_config(self.config, [*own, *overrides, *axes])


@dataclass(frozen=True)
class Cell:
    """One training-set size and seed."""

    per_class: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and its record."""
        return f"n{self.per_class}-seed-{self.seed}"


def experiments() -> dict[str, Experiment]:
    """Give every shipped experiment by its name."""
    folder = files("atcon.experiments") / "grids"
    entries = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    found = [_read(entry.read_text(encoding="utf-8"), entry.name) for entry in entries]
    return {one.name: one for one in found}


def experiment_of(source: str) -> Experiment:
    """Give a shipped experiment, or the one of a YAML file.

    Raises:
        InputError: There is none of that name (the nearest is given), or the file is wrong.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        known = experiments()
        if source not in known:
            raise no_such("experiment", source, known)
        return known[source]
    try:
        return _read(path.read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: cannot read this experiment ({error})") from error


def _read(text: str, source: str) -> Experiment:
    try:
        content = yaml.safe_load(text)
        if isinstance(content, dict):
            content.pop("notes", None)  # a place for YAML anchors
        return Experiment.model_validate(content)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({error})") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}"
            for entry in error.errors(include_url=False)
        ]
        raise InputError(f"{source}: " + "\n  ".join(lines)) from None


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
    """SHA-256 of what differs from the defaults, but the name and the device.

    A key that a later version adds changes no fingerprint.
    """
    content = config.model_dump(mode="json", exclude={"device", "name"}, exclude_defaults=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
