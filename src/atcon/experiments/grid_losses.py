"""Table 4 from the records of an experiment: which loss falls where the supervised loss falls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import (
    Interval,
    changes,
    correlation_in_a_run,
    correlation_of_series,
    correlation_over_runs,
)
from atcon.experiments.monitoring import TARGET, series_of
from atcon.experiments.paper import paper_facts

Record = Mapping[str, Any]
Between = Callable[[np.ndarray], np.ndarray]


def losses_of(
    records: Sequence[Record], *, of_changes: bool = False, level: float = 0.95
) -> dict[str, Any] | None:
    """Correlate each loss with the supervised loss over the epochs, as plain data.

    Of several runs it is the mean over seeds with its interval, of one run that run's own
    (`atcon.evaluation.correlation_over_runs`, `correlation_in_a_run`). Positive: they fall
    together.

    Args:
        records: Of the cells of one training-set size.
        of_changes: Whether the changes from epoch to epoch are correlated, which have no trend.
        level: Of the intervals.

    Returns:
        `rows`, `columns` and `cells`, each {value, low, high, paper}; None unless all of the
        records were monitored.
    """
    if not records or not all("monitored" in record for record in records):
        return None
    between: Between = changes if of_changes else np.asarray
    losses = records[0]["monitored"]["losses"]
    printed = paper_facts()["table4_ablation"]["rows"]
    rows = list(losses)
    columns = list(losses[rows[0]])
    cells = []
    for row in rows:
        line = []
        for column in columns:
            found = _correlation(records, row, column, between, level)
            ends = dict.fromkeys(("value", "low", "high")) if found is None else _ends(found)
            paper = None if of_changes else printed.get(row, {}).get(column)
            line.append({**ends, "paper": None if paper is None else paper / 100})
        cells.append(line)
    return {"rows": rows, "columns": columns, "cells": cells}


def matchings_tables(records: Sequence[Record], size: int) -> list[list[list[str]]]:
    """Draw table 4, in percent, and that of the changes: lines of a header and rows.

    Raises:
        InputError: A record has nothing monitored.
    """
    for record in records:
        if "monitored" not in record:
            raise InputError(
                f"{record['cell']}: no loss was monitored; set supervised.monitored_images"
            )
    epochs = {len(series_of(record["monitored"]["epochs"])) for record in records}
    over = f"N = {size}, {' or '.join(map(str, sorted(epochs)))} epochs"
    titles = {
        False: f"correlation with the supervised loss, in percent, {over}",
        True: f"the same of the changes from epoch to epoch, {over}",
    }
    return [
        _lines(title, losses_of(records, of_changes=of_changes) or {})
        for of_changes, title in titles.items()
    ]


def _lines(title: str, table: Mapping[str, Any]) -> list[list[str]]:
    lines = [[title, *table["columns"]]]
    for row, cells in zip(table["rows"], table["cells"], strict=True):
        lines.append([row, *map(_said, cells)])
    return lines


def _said(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "–"
    value, low, high = (_hundredths(cell[key]) for key in ("value", "low", "high"))
    paper = "" if cell["paper"] is None else f"; paper {_hundredths(cell['paper'])}"
    return f"{value} ({low} to {high}){paper}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def _correlation(
    records: Sequence[Record], row: str, column: str, between: Between, level: float
) -> Interval | None:
    pairs = [
        (
            between(series_of(record["monitored"]["losses"][row][column])),
            between(series_of(record["monitored"][TARGET])),
        )
        for record in records
    ]
    if len(pairs) == 1:
        return correlation_in_a_run(*pairs[0], level=level)
    return correlation_over_runs([correlation_of_series(*pair) for pair in pairs], level=level)


def _ends(found: Interval) -> dict[str, float]:
    return {key: round(getattr(found, key), 4) for key in ("value", "low", "high")}
