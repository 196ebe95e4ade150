"""Supplement, figure 1 from the records of an experiment: gain of consistency against its start."""

from collections.abc import Callable, Sequence

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import (
    Gain,
    Metric,
    gain_against_middle,
    gain_against_start,
    hierarchical_bootstrap,
    on_resamples,
    point,
    regression_to_the_mean,
    weighted_mean,
)
from atcon.experiments.cell_record import agreement_of, common_resamples
from atcon.experiments.paper_table import Record, entry_of
from atcon.experiments.table_formats import NOTHING, signed

Statistic = Callable[[np.ndarray, np.ndarray], Metric]
DRAWS = 2000
_START = "supervised"
_AFTER = {"consistency": "ours", "uniform": "uniform mask"}


def _mean_gain(before: np.ndarray, after: np.ndarray) -> Metric:
    return weighted_mean(after - before, np.isfinite(after - before))


STATISTICS: dict[str, Statistic] = {
    "mean gain": _mean_gain,
    "slope on the start": gain_against_start,
    "the same by regression to the mean": regression_to_the_mean,
    "slope on the mean of before and after": gain_against_middle,
}
"""What is said of the scatter; for noise alone the first slope is negative and the last is 0."""


def scatter_of(records: Sequence[Record]) -> dict[str, list[list[float]]] | None:
    """Give [before, gain] of every image that was measured, of all cells, by stage.

    Returns:
        None unless all records hold the consistency of their images.
    """
    if not records or not all(_recorded(record) for record in records):
        return None
    found: dict[str, list[list[float]]] = {}
    for stage in _AFTER:
        if all(stage in record["stages"] for record in records):
            both = [_pair(record, stage) for record in records]
            before = np.concatenate([one for one, _ in both])
            gain = np.concatenate([other - one for one, other in both])
            known = np.isfinite(gain)
            points = np.stack([before[known], gain[known]], axis=1)
            found[stage] = points.round(6).tolist()
    return found


def scatter_table(records: Sequence[Record], size: int) -> list[list[str]]:
    """Say how the gain depends on the start: lines of a header and rows, ours and the control.

    Intervals are of the bootstrap over seeds and test images.

    Raises:
        InputError: A record of before does not hold the consistency of its images.
    """
    for record in records:
        if not _recorded(record):
            raise InputError(
                f"{record['cell']}: its record does not hold the consistency of every image, as "
                "those of before: remove it to compute the cell anew"
            )
    stages = [stage for stage in _AFTER if all(stage in one["stages"] for one in records)]
    lines = [[f"consistency of each image, N = {size}", *STATISTICS]]
    measured = {
        stage: [_Measured.of(records, stage, one) for one in STATISTICS.values()]
        for stage in stages
    }
    lines += [
        [_AFTER[stage], *(_said(one.interval()) for one in measured[stage])] for stage in stages
    ]
    if len(stages) > 1:
        both = zip(*(measured[stage] for stage in stages), strict=True)
        lines.append(["ours − uniform mask", *(_said(ours.minus(other)) for ours, other in both)])
    return lines


class _Measured:
    """A statistic of every cell, on its images and on the common resamples of them."""

    def __init__(self, points: np.ndarray, values: np.ndarray) -> None:
        self.points, self.values = points, values

    @classmethod
    def of(cls, records: Sequence[Record], stage: str, statistic: Statistic) -> "_Measured":
        points, values = [], []
        for record in records:
            before, after = _pair(record, stage)
            metric = statistic(before, after)
            groups = record["groups"].split() if "groups" in record else None
            points.append(float(point(metric, len(before))))
            values.append(on_resamples(metric, common_resamples(len(before), groups)))
        return cls(np.array(points), np.stack(values))

    def interval(self) -> Gain | None:
        return self.minus(_Measured(np.zeros_like(self.points), np.zeros_like(self.values)))

    def minus(self, other: "_Measured") -> Gain | None:
        return hierarchical_bootstrap(
            self.values, other.values, (self.points, other.points), seed=0, draws=DRAWS
        )


def _said(found: Gain | None) -> str:
    if found is None:
        return NOTHING
    value, low, high = (signed(one, 3) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _recorded(record: Record) -> bool:
    return "agreement" in record["stages"][_START]


def _pair(record: Record, stage: str) -> tuple[np.ndarray, np.ndarray]:
    """Consistency of every image before and after; a stage that kept its start is its start."""
    before, after = (entry_of(record, one)["agreement"] for one in (_START, stage))
    return agreement_of(before), agreement_of(after)
