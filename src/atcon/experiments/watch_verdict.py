"""What the consistency of new data says, in words: a warning, no sign of one, or too few."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from atcon.evaluation import (
    Gain,
    Interval,
    Shift,
    auroc,
    bootstrap,
    paired_bootstrap,
)
from atcon.evaluation.metric import Metric

FEWEST = 8
"""Samples, or whole groups: with fewer an interval is much too narrow."""
SIZES = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"), (np.inf, "large"))
"""Borders of Cliff's delta, 2 P - 1 (Romano et al., 2006)."""
MEDIUM = (1 + 0.33) / 2
"""The smallest P of a medium difference: what could hide one says nothing."""
PARTS = {"validation": "held-out validation", "test": "held-out test"}
WARNING, ALIKE, MORE, SPREAD, TOO_FEW = (
    "agrees_less", "alike", "agrees_more", "other_spread", "too_few",
)  # fmt: skip


def shift_record(found: Shift, below: float) -> dict[str, Any]:
    """Give a comparison as plain data.

    Args:
        found: The comparison.
        below: Share of the new samples below the lowest twentieth of the reference.
    """
    interval = found.interval
    return {
        "less": round(found.lower, 5),
        "interval": None if interval is None else [round(interval.low, 5), round(interval.high, 5)],
        "rank_p": found.rank_p,
        "distance": round(found.distance, 5),
        "distance_p": found.distance_p,
        "smallest": None if found.smallest is None else round(found.smallest, 5),
        "units": list(found.units),
        "below": round(below, 5),
    }


def outcome_of(found: Shift, *, grouped: bool, level: float) -> str:
    """Judge a comparison.

    A set agrees less, or more, if the interval leaves 0.5 out and, where samples are independent,
    the rank test says the same. Not being clear is no sign that nothing changed unless a medium
    difference would have been seen.
    """
    interval = found.interval
    if interval is None or min(found.units) < FEWEST:
        return TOO_FEW
    if grouped or found.rank_p < 1 - level:
        if interval.low > 0.5:
            return WARNING
        if interval.high < 0.5:
            return MORE
    if not grouped and found.distance_p < 1 - level:
        return SPREAD
    return TOO_FEW if found.smallest is None or found.smallest > MEDIUM else ALIKE


def verdict_record(
    found: Shift, part: str, *, unit: str, grouped: bool, level: float
) -> dict[str, str]:
    """Say in plain words how new data compare with a part of the run's own.

    Args:
        found: The comparison.
        part: "validation" or "test".
        unit: images or clips.
        grouped: Whether whole groups were resampled.
        level: Of the interval.
    """
    outcome = outcome_of(found, grouped=grouped, level=level)
    reference = f"the run's {PARTS[part]} {unit}"
    pairs = _pairs(found.lower, found.interval, level)
    saying = {
        WARNING: f"Warning: the new {unit} agree less than {reference}: {pairs}, a "
        f"{_size(found.lower)} difference.",
        MORE: f"The new {unit} agree more than {reference}: {pairs}, a {_size(found.lower)} "
        "difference. They are not alike: samples of quite another kind can do that, too.",
        SPREAD: f"The new {unit} agree as well as {reference} on the whole ({pairs}), but spread "
        f"differently (Kolmogorov-Smirnov p = {found.distance_p:.2g}).",
        ALIKE: f"The new {unit} look like {reference}: {pairs}.",
        TOO_FEW: f"Too few {unit} to tell: {pairs}.",
    }[outcome]
    return {"outcome": outcome, "against": part, "sentence": f"{saying} {_seen(found, grouped)}"}


def _pairs(value: float, interval: Interval | None, level: float) -> str:
    ends = (
        "without an interval"
        if interval is None
        else f"{100 * level:g} % interval {100 * interval.low:.0f} to {100 * interval.high:.0f}"
    )
    return (
        f"in {100 * value:.0f} of 100 pairs of a new and an own one the new one agrees less ({ends}"
        "; 50 is no difference)"
    )


def _size(value: float) -> str:
    delta = abs(2 * value - 1)
    return next(word for border, word in SIZES if delta < border)


def _seen(found: Shift, grouped: bool) -> str:
    own, new = found.units
    what = "groups" if grouped else "of them"
    if found.smallest is None:
        return (
            f"With {new} new and {own} own {what} not even a total difference is sure to be seen."
        )
    return (
        f"With {new} new and {own} own {what}, {100 * found.smallest:.0f} of 100 is the smallest "
        "difference that would be seen in four of five cases."
    )


def errors_record(
    wrong: np.ndarray,
    consistency: np.ndarray,
    confidence: np.ndarray,
    weights: np.ndarray | None,
    *,
    level: float,
) -> dict[str, Any]:
    """Say how well the consistency tells wrong answers from right ones, beside the probability.

    `both` ranks by the mean of the two ranks, without anything fitted; `added` is what it gains
    over the probability alone.

    Args:
        wrong: Whether the top class of each sample is none of its own.
        consistency: Of each sample.
        confidence: Probability of the top class.
        weights: Resamples of the samples, `[resamples, n]`; None gives no intervals.
        level: Of the intervals.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    count, errors = len(wrong), int(np.sum(wrong))
    record: dict[str, Any] = {"judged": count, "errors": errors}
    if errors in (0, count):
        answers = "no answer is" if errors == 0 else "every answer is"
        return {**record, "undefined": f"{answers} wrong: nothing to tell apart"}
    score, baseline, both = (
        auroc(wrong, numbers)
        for numbers in (-consistency, -confidence, rankdata(-consistency) + rankdata(-confidence))
    )
    record |= {
        "score": _interval(score, weights, count, level),
        "baseline": _interval(baseline, weights, count, level),
        "both": _interval(both, weights, count, level),
        "difference": _gain(score, baseline, weights, level),
        "added": _gain(both, baseline, weights, level),
    }
    return {**record, "undefined": None, "sentence": _sentence(record)}


def _interval(
    metric: Metric, weights: np.ndarray | None, count: int, level: float
) -> dict[str, float | None]:
    found = None if weights is None else bootstrap(metric, weights, level=level)
    if found is None:
        value = float(metric(np.ones((1, count)))[0])
        return {"value": round(value, 5), "low": None, "high": None}
    return {key: round(value, 5) for key, value in asdict(found).items()}


def _gain(
    after: Metric, before: Metric, weights: np.ndarray | None, level: float
) -> dict[str, float] | None:
    found: Gain | None = (
        None if weights is None else paired_bootstrap(after, before, weights, level=level)
    )
    if found is None:
        return None
    return {key: round(value, 5) for key, value in asdict(found).items()}


def _sentence(record: Mapping[str, Any]) -> str:
    """Say whether the score is worth having where the probability is known anyway."""
    fewest = min(record["errors"], record["judged"] - record["errors"])
    if record["added"] is None or fewest < FEWEST:
        return f"Only {fewest} answers of the rarer kind: too few to say what predicts errors."
    low = record["score"]["low"]
    tells = (
        "A lower consistency goes with more errors"
        if low > 0.5
        else "The consistency does not measurably tell wrong answers from right ones"
    )
    added = record["added"]
    if added["low"] > 0:
        return f"{tells}, and it adds to what the probability says."
    if added["high"] < 0:
        return f"{tells}; mixed with the probability it tells less than the probability alone."
    return f"{tells}; beyond the probability it adds nothing that can be shown."
