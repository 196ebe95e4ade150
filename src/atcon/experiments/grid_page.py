"""What the page of an experiment shows, as plain data from the records of its cells alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.grid import Cell, Experiment
from atcon.experiments.grid_losses import losses_of
from atcon.experiments.grid_scatter import scatter_of
from atcon.experiments.paired import compared
from atcon.experiments.paper_table import (
    DRAWS,
    LEVEL,
    TITLES,
    VALIDATED,
    PaperTable,
    Record,
    Records,
    has_paper_table,
    measured,
    paper_tables,
)


def page_of(
    experiment: Experiment, records: Records, failed: Mapping[Cell, str] | None = None
) -> dict[str, Any]:
    """Put together what `report.write_experiment_report` draws (docs/architecture.md).

    Args:
        experiment: The protocol.
        records: Of its finished cells.
        failed: Why other cells failed, as far as it is known.

    Raises:
        InputError: There is no record.
    """
    if not records:
        raise InputError(f"{experiment.name} has no finished cell: {experiment.command()}")
    sizes = [_of_size(records, count) for count in _sizes(records)]
    titles = _titles(experiment, records)
    tables = paper_tables(experiment, records) if has_paper_table(experiment) else []
    first = next(iter(records.values()))
    return {
        "name": experiment.page_name,
        "title": experiment.title,
        "unit": first.get("unit", "images"),
        "judged": first["judged"],
        "level": LEVEL,
        "protocol": _protocol(experiment, records),
        "cells": _cells(experiment, records, failed or {}),
        "sizes": _sizes(records),
        "titles": titles,
        "tables": [_plain(table, first) for table in tables],
        "gains": [
            _gains(sizes, titles, metric, against)
            for against in experiment.against
            if against in titles
            for metric in experiment.metrics
        ],
        "values": [
            _values(sizes, titles, metric)
            for metric in experiment.metrics
            if not any(_holds(table, metric, titles) for table in tables)
        ],
        "seconds": {stage: [_spent(own, stage) for own in sizes] for stage in titles},
        "followed": _followed(sizes),
        "losses": losses_of(sizes[-1], level=LEVEL),
        "agreement": _agreement(records, titles),
    }


def _sizes(records: Records) -> list[int]:
    return sorted({cell.per_class for cell in records})


def _of_size(records: Records, count: int) -> list[Record]:
    return [record for cell, record in records.items() if cell.per_class == count]


def _titles(experiment: Experiment, records: Records) -> dict[str, str]:
    """The stages of the page, named as in the paper's table.

    They are those of its rows where it is that table alone, else every stage that some cell has, in
    the order of the first cell, the start first.
    """
    found: dict[str, str] = {}
    for record in records.values():
        for stage in record["stages"]:
            title = TITLES.get(stage) or str(record["titles"].get(stage, stage))
            found.setdefault(stage, title)
    own = {stage: title for stage, title in experiment.rows.items() if stage in found}
    return own if experiment.rows and "gains" not in experiment.tables else found | own


def _plain(table: PaperTable, first: Record) -> dict[str, Any]:
    """Give a paper's table as what JSON holds, and say what its intervals are taken over."""
    samples = first.get("unit", "images")
    note = (
        f"Intervals are over seeds and {first['judged']} {samples}, differences paired over both."
    )
    if table.metric == VALIDATED:
        note = (
            f"The validation {samples} also chose the epoch; a seed has one number there: values "
            "have no interval, and a difference has that of Student's t over the seeds."
        )
    content = asdict(table)
    rows = [{**row, "entries": list(row["entries"])} for row in content["rows"]]
    return {**content, "note": note, "sizes": list(table.sizes), "rows": rows}


def _holds(table: PaperTable, metric: str, titles: Mapping[str, str]) -> bool:
    """Whether a paper's table says already what these stages reach."""
    return table.metric == metric and titles.keys() <= {row.stage for row in table.rows}


def _agreement(records: Records, titles: Mapping[str, str]) -> dict[str, Any] | None:
    found = scatter_of(list(records.values()))
    return found and {stage: points for stage, points in found.items() if stage in titles}


def _protocol(experiment: Experiment, records: Records) -> list[list[str]]:
    """Say what every cell is, as terms and descriptions."""
    first = next(iter(records.values()))
    config = experiment.run_config(next(iter(records)))
    samples = str(first.get("unit", "images"))
    counts = first["counts"]
    groups = first.get("test_groups")
    over = f"whole groups of them ({groups})" if groups else "them"
    changed = "; ".join(f"{key} = {_said(value)}" for key, value in experiment.set.items())
    said = [["What is done", experiment.protocol], ["What was expected", experiment.expect]]
    if experiment.page_name != experiment.name:
        said.append(["Cells", f"those of {experiment.name}"])
    return [
        *([term, text.strip()] for term, text in said if text),
        ["Data", config.data.name],
        ["Network", config.model.name],
        [f"Training {samples} per class", ", ".join(f"N = {n}" for n in experiment.per_class)],
        ["Seeds", ", ".join(map(str, experiment.seeds))],
        ["Judged on", f"{counts['test']:,} {first['judged']} {samples}; intervals resample {over}"],
        ["Validation", f"{counts['validation']:,} {samples}"],
        ["Configuration", f"{experiment.config}, with {changed}" if changed else experiment.config],
    ]


def _said(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _cells(
    experiment: Experiment, records: Records, failed: Mapping[Cell, str]
) -> list[dict[str, Any]]:
    """Say of every cell whether it is finished, and how long it took, or why it failed."""
    return [
        {
            "per_class": cell.per_class,
            "seed": cell.seed,
            "finished": cell in records,
            "seconds": records[cell]["seconds"].get("total") if cell in records else None,
            "failed": None if cell in records else failed.get(cell),
        }
        for cell in experiment.cells
    ]


def _gains(
    sizes: Sequence[Sequence[Record]], titles: Mapping[str, str], metric: str, against: str
) -> dict[str, Any]:
    """One metric: the difference of every stage from one of them, a mark per training-set size."""
    arms: dict[str, list[Any]] = {stage: [] for stage in titles if stage != against}
    for own in sizes:
        marks = _differences(own, titles, metric, against)
        for stage, line in arms.items():
            line.append(marks.get(stage))
    title = METRICS[metric].title
    return {"metric": metric, "title": title, "against": titles[against], "arms": arms}


def _differences(
    own: Sequence[Record], titles: Mapping[str, str], metric: str, against: str
) -> dict[str, Any]:
    stages = _shared(own, titles)
    if against not in stages:
        return {}
    rows = [measured(own, stage, metric) for stage in stages]
    reference = stages.index(against)
    found = compared(rows, reference, METRICS[metric], level=LEVEL, seed=0, draws=DRAWS)
    return {stage: _mark(one["difference"]) for stage, one in zip(stages, found, strict=True)}


def _mark(difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give a difference with the larger p of the bootstrap and of Student's t over the seeds."""
    if difference is None:
        return None
    over_seeds = difference["over_seeds"]
    ends = {key: difference[key] for key in ("value", "low", "high", "clear")}
    return {**ends, "p": max(difference["p"], over_seeds["p"] if over_seeds else 0.0)}


def _values(
    sizes: Sequence[Sequence[Record]], titles: Mapping[str, str], metric: str
) -> dict[str, Any]:
    """One metric: what every stage reaches, a mark per training-set size."""
    arms: dict[str, list[Any]] = {stage: [] for stage in titles}
    for own in sizes:
        stages = _shared(own, titles)
        rows = [measured(own, stage, metric) for stage in stages]
        found = compared(rows, 0, METRICS[metric], level=LEVEL, seed=0, draws=DRAWS)
        marks = dict(zip(stages, found, strict=True))
        for stage, line in arms.items():
            one = marks.get(stage)
            line.append(one and {key: one[key] for key in ("value", "low", "high")})
    return {"metric": metric, "title": METRICS[metric].title, "arms": arms}


def _shared(own: Sequence[Record], titles: Mapping[str, str]) -> list[str]:
    """The stages of the page that all cells of a size have: together they are Holm's family."""
    return [stage for stage in titles if all(stage in one["stages"] for one in own)]


def _spent(own: Sequence[Record], stage: str) -> dict[str, Any] | None:
    """Seconds of training, without those of its start, and the epochs that were kept."""
    entries = [record["stages"][stage] for record in own if stage in record["stages"]]
    if not entries:
        return None
    seconds = float(np.mean([one["seconds"] for one in entries]))
    return {"seconds": round(seconds, 1), "epochs": [one["epoch"] for one in entries]}


def _followed(sizes: Sequence[Sequence[Record]]) -> list[list[float]] | None:
    """Mean over seeds of the mAP of the followed images in every round, a line per size."""
    if not all("rounds" in record for own in sizes for record in own):
        return None
    return [
        [
            round(float(np.mean([one["held_out"] for one in each])), 4)
            for each in zip(*(record["rounds"] for record in own), strict=False)
        ]
        for own in sizes
    ]
