"""One table over finished runs: differences paired over test images and seeds, with Holm's p."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atcon import records
from atcon.errors import InputError, no_such
from atcon.evaluation import (
    Gain,
    hierarchical_bootstrap,
    holm,
    on_resamples,
    paired_over_seeds,
    point,
    resample_weights,
)
from atcon.experiments.compare_metrics import DEFAULT, METRICS, Measure
from atcon.experiments.compare_records import read_folders
from atcon.experiments.compare_rows import Row, rows_of
from atcon.experiments.compare_splits import check_comparable, methods_of

CLEAR = 0.05
"""A difference is marked where its Holm-corrected p is below."""


@dataclass(frozen=True)
class _Measured:
    """A metric of one row: `[seed]` on the test images, `[seed, resample]` on their resamples."""

    points: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class _Change:
    """How a row differs from the reference; `t` speaks of the seeds alone and needs two."""

    gain: Gain
    t: Gain | None


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
    resamples: those of the first run, so that its values have the intervals of its own summary.
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
    generator = np.random.default_rng([first.seed, 2])  # the resamples of `summary.weights_for`
    weights = resample_weights(images, first.resamples, seed=generator)
    return {
        "runs": [method.label for method in methods],
        "seeds": list(methods[0].seeds),
        "test_images": images,
        "level": first.level,
        "resamples": first.resamples,
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
        measured = [_measured(row, METRICS[name], weights) for row in rows]
        own = [_change(one, None, level, seed) for one in measured]
        changes = [
            None if at == reference else _change(one, measured[reference], level, seed)
            for at, one in enumerate(measured)
        ]
        differences = _differences(changes, METRICS[name])
        for entry, value, difference in zip(table, own, differences, strict=True):
            ends = _ends(None if value is None else value.gain, METRICS[name])
            entry["metrics"][name] = {**ends, "difference": difference}
    return table


def _measured(row: Row, measure: Measure, weights: np.ndarray) -> _Measured:
    metrics = [measure.of(answers) for answers in row.answers]
    return _Measured(
        np.array([point(metric, weights.shape[1]) for metric in metrics]),
        np.stack([on_resamples(metric, weights) for metric in metrics]),
    )


def _change(after: _Measured, before: _Measured | None, level: float, seed: int) -> _Change | None:
    """What a row gains over another one, or (without one) over nothing: its value."""
    zero = _Measured(np.zeros_like(after.points), np.zeros_like(after.values))
    base = zero if before is None else before
    gain = hierarchical_bootstrap(
        after.values,
        base.values,
        (after.points, base.points),
        seed=np.random.default_rng([seed, 3]),
        level=level,
    )
    if gain is None:
        return None
    several = before is not None and len(after.points) > 1
    t = paired_over_seeds(after.points - base.points, level=level) if several else None
    return _Change(gain, t)


def _differences(
    changes: Sequence[_Change | None], measure: Measure
) -> list[dict[str, Any] | None]:
    """Correct the p-values of one metric over all its comparisons, and mark what is clear."""
    known = [change for change in changes if change is not None]
    gains, over_seeds = ([c.gain for c in known], [c.t for c in known if c.t is not None])
    corrected = iter(holm([gain.p for gain in gains]))
    corrected_t = iter(holm([gain.p for gain in over_seeds]))
    found: list[dict[str, Any] | None] = []
    for change in changes:
        if change is None:
            found.append(None)
            continue
        p = float(next(corrected))
        entry = {**_tested(change.gain, p, measure), "clear": p < CLEAR, "over_seeds": None}
        if change.t is not None:
            p_t = float(next(corrected_t))
            entry["over_seeds"] = _tested(change.t, p_t, measure)
            entry["clear"] = p < CLEAR and p_t < CLEAR
        found.append(entry)
    return found


def _tested(gain: Gain, corrected: float, measure: Measure) -> dict[str, Any]:
    return {**_ends(gain, measure), "p": round(gain.p, 5), "p_holm": round(corrected, 5)}


def _ends(gain: Gain | None, measure: Measure) -> dict[str, float | None]:
    if gain is None:
        return dict.fromkeys(("value", "low", "high"))
    return {
        key: round(measure.scale * value, measure.digits)
        for key, value in asdict(gain).items()
        if key != "p"
    }


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
    if not path.exists():
        return
    head = (",".join(COLUMNS) + "\r\n").encode()
    if not path.is_file() or not path.read_bytes().startswith(head):
        raise InputError(f"{path} exists and is not a table of atcon compare: choose another --csv")


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
