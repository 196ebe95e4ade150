"""Rows of a table against one of them: paired over seeds and images, with Holm's correction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atcon.evaluation import (
    Gain,
    hierarchical_bootstrap,
    holm,
    on_resamples,
    paired_over_seeds,
    point,
)
from atcon.experiments.compare_metrics import Measure
from atcon.experiments.compare_records import Answers

CLEAR = 0.05
"""A difference is marked where its Holm-corrected p is below."""


@dataclass(frozen=True)
class Measured:
    """A metric of one row: `[seed]` on the test images, `[seed, resample]` on their resamples."""

    points: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class _Change:
    """How a row differs from the reference; `t` speaks of the seeds alone and needs two."""

    gain: Gain
    t: Gain | None


def measured_by(measure: Measure, answers: Sequence[Answers], weights: np.ndarray) -> Measured:
    """Measure what one row answered in every seed, on the images and on their resamples."""
    metrics = [measure.of(one) for one in answers]
    return Measured(
        np.array([point(metric, weights.shape[1]) for metric in metrics]),
        np.stack([on_resamples(metric, weights) for metric in metrics]),
    )


def compared(
    rows: Sequence[Measured],
    reference: int,
    measure: Measure,
    *,
    level: float,
    seed: int,
    draws: int | None = None,
) -> list[dict[str, Any]]:
    """Give the record of every row: its value, and its difference from the reference.

    Differences are those of `hierarchical_bootstrap`, and with several seeds also of Student's t
    over them. Holm's correction is over all rows but the reference. A difference is `clear` where
    the corrected p is below 0.05, with several seeds that of both.

    Args:
        rows: Of one metric, all on the same resamples and seeds.
        reference: Which of them the others are compared with.
        measure: The metric, for its scale.
        level: Coverage of the intervals.
        seed: Of the draws.
        draws: Of the bootstrap; by default as many as there are resamples.

    Returns:
        `{value, low, high, difference}` each; a difference is `{value, low, high, p, p_holm, clear,
        over_seeds}`, None at the reference or where it is not defined.
    """
    base = rows[reference]
    own = [_change(one, None, level, seed, draws) for one in rows]
    changes = [
        None if at == reference else _change(one, base, level, seed, draws)
        for at, one in enumerate(rows)
    ]
    return [
        {**_ends(None if value is None else value.gain, measure), "difference": difference}
        for value, difference in zip(own, _differences(changes, measure), strict=True)
    ]


def _change(
    after: Measured, before: Measured | None, level: float, seed: int, draws: int | None
) -> _Change | None:
    """What a row gains over another one, or (without one) over nothing: its value."""
    zero = Measured(np.zeros_like(after.points), np.zeros_like(after.values))
    base = zero if before is None else before
    gain = hierarchical_bootstrap(
        after.values,
        base.values,
        (after.points, base.points),
        seed=np.random.default_rng([seed, 3]),
        draws=draws,
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
