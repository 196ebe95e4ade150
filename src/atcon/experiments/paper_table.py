"""A table as the paper has it: its numbers beside those of the records, as plain data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import holm, paired_over_seeds
from atcon.experiments.cell_record import values_on_resamples
from atcon.experiments.compare_metrics import METRICS, Measure
from atcon.experiments.grid import Cell, Experiment
from atcon.experiments.paired import CLEAR, Measured, compared
from atcon.experiments.paper import Printed

Record = Mapping[str, Any]
Records = Mapping[Cell, Record]
LEVEL = 0.95
DRAWS = 2000
VALIDATED = "validation_f1"
"""F1 on the validation images, as the supplement's table of SVHN has it."""
OF_CLASS = "F1 of "
"""F1 of one class, as table 1 has it; the name of the class follows."""
TITLES = {"supervised": "supervised", "consistency": "ours", "uniform": "uniform mask"}


@dataclass(frozen=True, slots=True)
class Difference:
    """From the row compared with, in the table's units; `star` after Holm over the column."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    star: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """What the paper prints and what the records say; None where there is nothing."""

    printed: Printed | None = None
    seeds: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One way to train one network, an entry per size."""

    network: str
    stage: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One metric.

    Attributes:
        metric: Its key.
        title: As it is shown, in percent.
        sizes: The training-set sizes, a column each.
        against: The title of the row that the others are compared with.
        rows: Of all networks.
    """

    metric: str
    title: str
    sizes: tuple[int, ...]
    against: str
    rows: tuple[Row, ...]


def has_paper_table(experiment: Experiment) -> bool:
    """Whether it names the rows or the numbers of a table of the paper."""
    return experiment.paper is not None or bool(experiment.rows) or "classes" in experiment.tables


def paper_tables(experiment: Experiment, records: Records) -> list[PaperTable]:
    """Put the tables of an experiment together, one per metric, and one per class if it asks so.

    Differences, intervals and stars are those of `compared`: paired over seeds and test samples,
    Holm's correction over the rows of a column. Of F1 on the validation samples there is one number
    a seed, so its interval is Student's over the seeds.

    Raises:
        InputError: A record lacks the validation samples, or the classes, that a table is about.
    """
    metrics = [*(experiment.paper.values if experiment.paper else experiment.metrics)]
    if "classes" in experiment.tables:
        metrics += [f"{OF_CLASS}{name}" for record in records.values() for name in _classes(record)]
    return [_table(experiment, records, metric) for metric in dict.fromkeys(metrics)]


def _table(experiment: Experiment, records: Records, metric: str) -> PaperTable:
    titles = titles_of(experiment, records)
    against = experiment.against[0]
    rows = [
        row
        for network in experiment.networks or ("",)
        for row in _rows(experiment, records, metric, network)
    ]
    title = "F1 on the validation set" if metric == VALIDATED else _measure(metric).title
    return PaperTable(
        metric, title, experiment.per_class, titles.get(against, against), tuple(rows)
    )


def _measure(metric: str) -> Measure:
    """Give a metric of the table of metrics, or that of one class."""
    return replace(METRICS["f1"], title=metric) if _class_of(metric) else METRICS[metric]


def _class_of(metric: str) -> str:
    """Give the class that a metric is of; empty if it is of all."""
    return metric.removeprefix(OF_CLASS) if metric.startswith(OF_CLASS) else ""


def _classes(record: Record) -> Iterable[str]:
    entry: Record = entry_of(record, "supervised").get("per_class_resampled", {})
    if not entry:
        raise InputError(
            f"{record['cell']} was recorded before F1 was kept by class: compute it anew"
        )
    return entry


def titles_of(experiment: Experiment, records: Records) -> dict[str, str]:
    """Give the stages of a table with their titles: those of the experiment, or all of a record."""
    if experiment.rows or not records:
        return dict(experiment.rows) or dict(TITLES)
    return stage_titles(next(iter(records.values())))


def stage_titles(record: Record) -> dict[str, str]:
    """Give the stages of a record with their titles."""
    return {stage: TITLES.get(stage) or record["titles"][stage] for stage in record["stages"]}


def _rows(experiment: Experiment, records: Records, metric: str, network: str) -> list[Row]:
    titles = titles_of(experiment, records)
    columns = []
    for count in experiment.per_class:
        own = [
            record
            for cell, record in records.items()
            if cell.per_class == count and cell.network == network
        ]
        found = _column(own, tuple(titles), experiment.against[0], metric)
        columns.append(
            [_entry(experiment, metric, stage, count, network, found) for stage in titles]
        )
    return [
        Row(network, stage, title, tuple(column[at] for column in columns))
        for at, (stage, title) in enumerate(titles.items())
    ]


def _entry(
    experiment: Experiment,
    metric: str,
    stage: str,
    count: int,
    network: str,
    found: Mapping[str, Entry],
) -> Entry:
    ours = found.get(stage, Entry())
    paper = experiment.paper
    printed = paper.printed(metric, stage, count, network) if paper else None
    return Entry(printed, ours.seeds, ours.value, ours.low, ours.high, ours.difference)


def _column(
    records: Sequence[Record], stages: Sequence[str], against: str, metric: str
) -> dict[str, Entry]:
    """Measure every stage that all records have, at one size."""
    known = [
        one for one in stages if records and all(one in record["stages"] for record in records)
    ]
    other = _class_of(metric) and any(_class_of(metric) not in _classes(one) for one in records)
    if not known or other:
        return {}
    if metric == VALIDATED:
        return _validated_column(records, known, against)
    rows = [measured(records, stage, metric) for stage in known]
    reference = known.index(against) if against in known else 0
    found = compared(rows, reference, _measure(metric), level=LEVEL, seed=0, draws=DRAWS)
    return {
        stage: _compared_entry(one, len(records)) for stage, one in zip(known, found, strict=True)
    }


def _compared_entry(one: Mapping[str, Any], seeds: int) -> Entry:
    change, difference = one["difference"], None
    if change is not None:
        t = change["over_seeds"]
        p = max(change["p"], t["p"] if t else 0.0)
        difference = Difference(
            change["value"], change["low"], change["high"], p, bool(change["clear"])
        )
    return Entry(None, seeds, one["value"], one["low"], one["high"], difference)


def _validated_column(
    records: Sequence[Record], stages: Sequence[str], against: str
) -> dict[str, Entry]:
    base = validated(records, against) if against in stages else None
    others = [stage for stage in stages if stage != against and base is not None]
    gains = {}
    if base is not None and len(records) > 1:
        gains = {one: paired_over_seeds(validated(records, one) - base) for one in others}
    corrected = dict(zip(gains, holm([gain.p for gain in gains.values()]), strict=True))
    found = {}
    for stage in stages:
        difference, gain = None, gains.get(stage)
        if gain is not None:
            star = bool(corrected[stage] < CLEAR)
            difference = Difference(gain.value, gain.low, gain.high, gain.p, star)
        value = float(validated(records, stage).mean())
        found[stage] = Entry(None, len(records), value, difference=difference)
    return found


def entry_of(record: Record, stage: str) -> Record:
    """Give the measurements of a stage, or of the one that gave the same answers."""
    entry: Record = record["stages"][stage]
    return record["stages"][entry["same_as"]] if "same_as" in entry else entry


def measured(records: Sequence[Record], stage: str, metric: str) -> Measured:
    """Give a metric of a stage on the test samples, and on their resamples, a row per record."""
    entries = [entry_of(record, stage) for record in records]
    scale, label = _measure(metric).scale, _class_of(metric)
    value, resampled = ("per_class", "per_class_resampled") if label else ("test", "resampled")
    points = [entry[value][label or metric] for entry in entries]
    return Measured(
        np.array([np.nan if one is None else one / scale for one in points]),
        np.stack([values_on_resamples(entry[resampled][label or metric]) for entry in entries]),
    )


def validated(records: Sequence[Record], stage: str) -> np.ndarray:
    """F1 of a stage on the validation samples, in percent, one per record.

    Raises:
        InputError: There were none.
    """
    found = [record["stages"][stage]["validation"] for record in records]
    if not all(found):
        raise InputError("there are no validation images: set data.validation_images")
    return np.array([one["f1"] for one in found])
