"""What a comparison reads: finished run folders, and what their stages said of the test images."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, Float

from atcon import records
from atcon.errors import InputError
from atcon.evaluation import MAP_THRESHOLDS
from atcon.experiments.folder import RunFolder
from atcon.experiments.resampling import groups_of
from atcon.experiments.yaml_text import yaml_mapping

SEED_FOLDER = "seed-"
"""What `atcon repeat` names the folder of a seed, before the number."""
LATER = ("iou_reference", "pointing", "box_ious")
"""Columns that the tables of older runs lack; what reads them is not defined there."""
PLACES = ("iou", "epg", "correlation", "mask_contrast", *LATER)
"""The columns of `localisation/STAGE.csv` that a metric reads."""
_HEAD = ("name", "labels", "predicted")


@dataclass(frozen=True)
class Image:
    """What a split says of an image: its labels, its SHA-256 where it was read, its group."""

    labels: tuple[str, ...]
    sha256: str | None
    group: str | None = None


@dataclass(frozen=True)
class FinishedFolder:
    """A finished run as it lies on disk.

    Attributes:
        root: The folder, as it was given.
        seed: Of the run.
        configuration: Everything but the seed, as text: equal where only the seed differs.
        classes: Names, in the order of the probabilities.
        multi_label: Whether an image may have several.
        per_class: N.
        level: Coverage of its intervals.
        resamples: Of its test images.
        unit: What its samples are: images or clips.
        thresholds: By stage, one per class, fitted on the validation images.
        parts: `train`, `validation` and `test` of its split, images by name.
    """

    root: Path
    seed: int
    configuration: str
    classes: tuple[str, ...]
    multi_label: bool
    per_class: int
    level: float
    resamples: int
    unit: str
    thresholds: Mapping[str, tuple[float, ...]]
    parts: Mapping[str, Mapping[str, Image]]

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of its stages, in its order."""
        return tuple(self.thresholds)

    def groups_of(self, names: Iterable[str]) -> list[str] | None:
        """The groups of test images, as the intervals resample them; None where there are none."""
        return groups_of((name, self.parts["test"][name].group) for name in names)


@dataclass(frozen=True)
class Answers:
    """What one stage of one run said about the test images.

    Attributes:
        names: Of the images.
        labels: `[image, class]`.
        probabilities: `[image, class]`.
        thresholds: `[class]`.
        multi_label: Whether an image may have several classes.
        places: The columns `PLACES` that were asked for, NaN where not defined; `box_ious` has one
            value for each cut of the map.
    """

    names: tuple[str, ...]
    labels: Bool[np.ndarray, "image class"]
    probabilities: Float[np.ndarray, "image class"]
    thresholds: Float[np.ndarray, " class"]
    multi_label: bool
    places: Mapping[str, Float[np.ndarray, "image ..."]]

    def in_order_of(self, names: Sequence[str]) -> "Answers":
        """The same answers in another order of the same images."""
        if tuple(names) == self.names:
            return self
        at = {name: index for index, name in enumerate(self.names)}
        order = [at[name] for name in names]
        return Answers(
            tuple(names),
            self.labels[order],
            self.probabilities[order],
            self.thresholds,
            self.multi_label,
            {column: values[order] for column, values in self.places.items()},
        )

    def equals(self, other: "Answers") -> bool:
        """Whether two stages say the same of the same images, to the last bit."""
        return np.array_equal(self.probabilities, other.probabilities) and all(
            np.array_equal(mine, theirs, equal_nan=True)
            for mine, theirs in (
                (self.thresholds, other.thresholds),
                *((values, other.places[column]) for column, values in self.places.items()),
            )
        )


def read_folders(given: Iterable[Path]) -> list[FinishedFolder]:
    """Read run folders; a folder of `seed-K` folders stands for all of them.

    Raises:
        InputError: One is no run folder, is unfinished, is damaged, or is given twice.
    """
    roots = [root for path in given for root in _expanded(path)]
    seen: dict[Path, Path] = {}
    for root in roots:
        before = seen.setdefault(root.resolve(), root)
        if before is not root:
            same = "" if str(before) == str(root) else f" (also as {before})"
            raise InputError(f"{root} is given twice{same}: give every run once")
    return [_read(root) for root in roots]


def _expanded(path: Path) -> list[Path]:
    folder = RunFolder(path)
    if folder.summary.is_file():
        return [path]
    if folder.config.is_file():
        raise InputError(
            f"{path} is an unfinished run (it has no summary.json): finish it with "
            f"atcon run {folder.config} --resume --out {path}, or leave it out"
        )
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: give a finished run folder, or one of atcon repeat")
    seeds = sorted(
        (one for one in path.glob(f"{SEED_FOLDER}*") if one.is_dir()),
        key=lambda one: (len(one.name), one.name),
    )
    if not seeds:
        raise InputError(
            f"{path} is not an atcon run folder: it has neither a summary.json nor folders "
            f"{SEED_FOLDER}K of atcon repeat"
        )
    return [root for one in seeds for root in _expanded(one)]


def _read(root: Path) -> FinishedFolder:
    folder = RunFolder(root)
    summary, split = records.read_json(folder.summary), records.read_json(folder.split)
    configuration = _configuration(folder.config)
    where = f"{folder.summary} or {folder.split}"
    try:
        found = FinishedFolder(
            root=root,
            seed=int(summary["seed"]),
            configuration=configuration,
            classes=tuple(map(str, summary["classes"])),
            multi_label=bool(summary["multi_label"]),
            per_class=int(split["per_class"]),
            level=float(summary["level"]),
            resamples=int(summary["resamples"]),
            unit=str(summary.get("unit", "images")),
            thresholds={
                str(stage): tuple(map(float, content["thresholds"]))
                for stage, content in summary["stages"].items()
            },
            parts={part: _images(split[part]) for part in ("train", "validation", "test")},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: not the record of a finished run ({error!r})") from error
    if not found.stages:
        raise InputError(f"{folder.summary}: the run has no stage")
    return found


def _configuration(path: Path) -> str:
    """Everything that is configured but the seed, in one form."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the configuration of the run ({error})") from error
    content = yaml_mapping(text, str(path), "not the configuration of a run")
    content.pop("seed", None)
    return str(yaml.safe_dump(content, sort_keys=True))


def _images(entries: Iterable[Mapping[str, Any]]) -> dict[str, Image]:
    return {
        str(entry["name"]): Image(
            tuple(map(str, entry["labels"])), entry.get("sha256"), entry.get("group")
        )
        for entry in entries
    }


def read_answers(run: FinishedFolder, stage: str, places: Iterable[str]) -> Answers:
    """Read what a stage said of the test images.

    Args:
        run: Of the stage.
        stage: One of `run.stages`.
        places: Which of `PLACES` are needed; without any, `localisation/STAGE.csv` is not read.

    Raises:
        InputError: A table is missing, or is not one of this run.
    """
    path = run.root / "predictions" / f"{stage}.csv"
    rows = _table(path, (*_HEAD, *run.classes))
    names = tuple(row[0] for row in rows)
    _check_names(path, run, names)
    numbers = [_numbers(path, row[0], row[len(_HEAD) :]) for row in rows]
    return Answers(
        names=names,
        labels=np.array([_marks(path, run, name) for name in names]),
        probabilities=np.array(numbers),
        thresholds=np.array(run.thresholds[stage]),
        multi_label=run.multi_label,
        places=_places(run, stage, names, tuple(places)),
    )


def _places(
    run: FinishedFolder, stage: str, names: tuple[str, ...], columns: tuple[str, ...]
) -> dict[str, np.ndarray]:
    if not columns:
        return {}
    path = run.root / "localisation" / f"{stage}.csv"
    head = ("name", "class", "correct", *PLACES)
    older = head[: -len(LATER)]
    rows = _table(path, head, older)
    if tuple(row[0] for row in rows) != names:
        raise InputError(f"{path}: its {run.unit} are not those of predictions/{stage}.csv")
    return {column: _column(path, rows, column, head.index(column)) for column in columns}


def _column(path: Path, rows: list[list[str]], column: str, at: int) -> np.ndarray:
    cells = [row[at] if at < len(row) else "" for row in rows]
    many = len(MAP_THRESHOLDS) if column == "box_ious" else 1
    found = np.array(
        [_place(path, row[0], cell, many) for row, cell in zip(rows, cells, strict=True)]
    )
    return found if column == "box_ious" else found[:, 0]


def _table(path: Path, *heads: tuple[str, ...]) -> list[list[str]]:
    """The rows of a table with one of these heads, by position: a class may be called `name`."""
    try:
        found, *rows = records.read_table(path) or [[]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; is the run folder complete?") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error
    if tuple(found) not in heads:
        raise InputError(
            f"{path}: its columns are {found}, but those of the run are {list(heads[0])}"
        )
    for number, row in enumerate(rows, 2):
        if len(row) != len(found):
            raise InputError(f"{path}, row {number}: {len(row)} cells, but {len(found)} columns")
    return rows


def _check_names(path: Path, run: FinishedFolder, names: tuple[str, ...]) -> None:
    if not names:
        raise InputError(f"{path}: there are no test images in it")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: the test image {twice} is in it twice")
    unknown = [name for name in names if name not in run.parts["test"]]
    if unknown:
        raise InputError(f"{path}: {unknown[0]} is no test image of {run.root / 'split.json'}")


def _marks(path: Path, run: FinishedFolder, name: str) -> list[bool]:
    labels = run.parts["test"][name].labels
    if not set(labels) <= set(run.classes):
        raise InputError(f"{path}: the labels {list(labels)} of {name} are no classes of the run")
    return [one in labels for one in run.classes]


def _numbers(path: Path, name: str, cells: Sequence[str]) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{path}, image {name}: {error}") from None
    if not all(map(math.isfinite, numbers)):
        raise InputError(
            f"{path}, image {name}: a number is not finite; has the training diverged?"
        )
    return numbers


def _place(path: Path, name: str, cell: str, many: int) -> list[float]:
    numbers = _numbers(path, name, cell.split(";")) if cell else [math.nan] * many
    if len(numbers) != many:
        raise InputError(f"{path}, image {name}: {len(numbers)} values in a cell, expected {many}")
    return numbers
