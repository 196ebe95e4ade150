"""One table over finished runs: differences paired over test images and seeds, with Holm's p."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atcon import records
from atcon.errors import no_such
from atcon.experiments.compare_metrics import DEFAULT, METRICS
from atcon.experiments.compare_records import read_folders
from atcon.experiments.compare_rows import Row, rows_of
from atcon.experiments.compare_splits import check_comparable, methods_of
from atcon.experiments.paired import compared, measured_by
from atcon.experiments.resampling import resampled_record, weights_for


def compare(
    folders: Sequence[Path],
    *,
    stages: Sequence[str] = (),
    against: str | None = None,
    metrics: Sequence[str] = DEFAULT,
) -> dict[str, Any]:
    """Compare the stages of finished runs on their common test images.

    Runs that differ in their seed only are one method; its differences are paired by seed and by
    test image (`hierarchical_bootstrap`, and Student's t over the seeds). All rows share the same
    resamples: those of the first run (of its groups, if it has any), so that its values have the
    intervals of its own summary.
    Holm's correction is over all comparisons of one metric. A difference is `clear` where the
    corrected p is below 0.05, with several seeds that of the bootstrap and that of Student's t.

    Args:
        folders: Run folders, or folders of `atcon repeat`.
        stages: Restrict the rows to these; by default all.
        against: `RUN:STAGE` or `STAGE`, the reference; by default the first run's supervised
            stage.
        metrics: Names of `METRICS`.

    Returns:
        The table, in percent where a metric is one: `rows` with `run`, `stage`, `folders`, `same`
        (who gives the same predictions) and `metrics`, each `{value, low, high, difference}`; a
        difference is `{value, low, high, p, p_holm, clear, over_seeds}`, null at the reference.

    Raises:
        InputError: A folder holds no finished run, the runs are not comparable (the difference is
            named), or a stage or metric is unknown.
    """
    for name in metrics:
        if name not in METRICS:
            raise no_such("metric", name, METRICS)
    methods = methods_of(read_folders(folders))
    check_comparable(methods)
    reference, rows, notes = rows_of(methods, stages, against, metrics)
    first = methods[0].runs[0]
    images = len(reference.answers[0].names)
    groups = first.groups_of(reference.answers[0].names)
    weights = weights_for(images, groups, first.resamples, first.seed)
    return {
        "runs": [method.label for method in methods],
        "seeds": list(methods[0].seeds),
        "test_images": images,
        "unit": first.unit,
        "level": first.level,
        "resamples": first.resamples,
        **resampled_record(groups),
        "reference": {"run": reference.method.label, "stage": reference.stage},
        "comparisons": len(rows) - 1,
        "titles": {name: METRICS[name].title for name in metrics},
        "notes": notes,
        "rows": _table(rows, rows.index(reference), metrics, weights, first.level, first.seed),
    }


def _table(
    rows: list[Row],
    reference: int,
    metrics: Sequence[str],
    weights: np.ndarray,
    level: float,
    seed: int,
) -> list[dict[str, Any]]:
    """The record of every row; every metric has its own family of comparisons."""
    table: list[dict[str, Any]] = [
        {
            "run": row.method.label,
            "stage": row.stage,
            "folders": [str(run.root) for run in row.method.runs],
            "same": [{"run": run, "stage": stage} for run, stage in row.same],
            "metrics": {},
        }
        for row in rows
    ]
    for name in metrics:
        measure = METRICS[name]
        measured = [measured_by(measure, row.answers, weights) for row in rows]
        found = compared(measured, reference, measure, level=level, seed=seed)
        for entry, own in zip(table, found, strict=True):
            entry["metrics"][name] = own
    return table


COLUMNS = (
    "run", "stage", "metric", "seeds", "value", "low", "high", "difference", "difference_low",
    "difference_high", "p", "p_holm", "clear", "t_low", "t_high", "t_p", "t_p_holm",
)  # fmt: skip
"""Of the table as CSV: one row per stage and metric."""


def write_table(path: Path, record: Mapping[str, Any]) -> None:
    """Write what `compare` gave as CSV; an older table of this kind is replaced, nothing else.

    Raises:
        InputError: Another file or a folder lies there.
    """
    check_writable(path)
    records.write_csv(path, COLUMNS, map(_cells, _flat(record)))


def check_writable(path: Path) -> None:
    """Refuse a path where something else than an older table lies."""
    records.check_replaceable(path, COLUMNS, "atcon compare")


def _flat(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "run": row["run"],
            "stage": row["stage"],
            "metric": name,
            "seeds": " ".join(map(str, record["seeds"])),
            **_renamed(measured, {"value": "value", "low": "low", "high": "high"}),
            **_renamed(measured["difference"], _DIFFERENCE),
            **_renamed((measured["difference"] or {}).get("over_seeds"), _OVER_SEEDS),
        }
        for row in record["rows"]
        for name, measured in row["metrics"].items()
    ]


_DIFFERENCE = {
    "value": "difference", "low": "difference_low", "high": "difference_high", "p": "p",
    "p_holm": "p_holm", "clear": "clear",
}  # fmt: skip
_OVER_SEEDS = {"low": "t_low", "high": "t_high", "p": "t_p", "p_holm": "t_p_holm"}


def _renamed(entry: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any]:
    return {} if entry is None else {new: entry[old] for old, new in names.items()}


def _cells(row: Mapping[str, Any]) -> list[Any]:
    values = (row.get(column) for column in COLUMNS)
    return [int(value) if isinstance(value, bool) else value for value in values]
