"""Percentile bootstrap over samples, or over whole patients; paired for a gain."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.metric import ClassMetric, Metric, Values, Weights, point

CHUNK = 2**19
"""Weights handed to a metric at once: its intermediate arrays stay in the cache."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value between the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference between the ends of its interval, with a two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def resample_weights(
    samples: int,
    resamples: int = 1000,
    *,
    seed: int | np.random.Generator,
    groups: ArrayLike | None = None,
) -> Weights:
    """Count how often each sample is drawn in each resample, `[resamples, samples]`.

    Args:
        samples: How many samples there are.
        resamples: How many times to draw.
        seed: A seed or a generator; the same seed gives the same counts.
        groups: One name per sample (a patient, a video); whole groups are then drawn.

    Raises:
        InputError: There is nothing to draw, or `groups` does not name every sample once.
    """
    if samples < 1 or resamples < 1:
        raise InputError(f"cannot draw {resamples} resamples of {samples} samples: need at least 1")
    if groups is None:
        generator = np.random.default_rng(seed)
        counts = np.empty((resamples, samples), dtype=np.float32)
        for row in counts:
            row[:] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
        return counts
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if index.shape != (samples,):
        raise InputError(
            f"groups have shape {index.shape}, expected one name per sample ({samples})"
        )
    return resample_weights(len(names), resamples, seed=seed)[:, index]


def tails(level: float) -> tuple[float, float]:
    """Probabilities at the two ends of a central interval.

    Raises:
        InputError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level} is no coverage: give a fraction such as 0.95")
    return (1 - level) / 2, (1 + level) / 2


def bootstrap(metric: Metric, weights: Weights, *, level: float = 0.95) -> Interval | None:
    """Percentile interval of `metric`.

    Args:
        metric: A function of sample weights.
        weights: What `resample_weights` gave.
        level: Coverage of the interval.

    Returns:
        The interval over the resamples in which the metric is defined, or None where the metric is
        not defined on the samples themselves (or on none of the resamples).
    """
    drawn = resampled(metric, weights)
    return None if drawn is None else Interval(drawn.value, *percentiles(drawn.values, level))


def bootstrap_per_class(
    metric: ClassMetric, weights: Weights, *, level: float = 0.95
) -> list[Interval | None]:
    """Percentile interval of every class; None where a class's metric is not defined."""
    columns = on_resamples(metric, weights).T
    values = point(metric, weights.shape[1])
    drawn = [defined(float(v), column) for v, column in zip(values, columns, strict=True)]
    return [
        None if one is None else Interval(one.value, *percentiles(one.values, level))
        for one in drawn
    ]


def paired_bootstrap(
    after: Metric, before: Metric, weights: Weights, *, level: float = 0.95
) -> Gain | None:
    r"""Percentile interval of `after - before` on the same resamples, and its p-value.

    $p = \min(1, 2 (1 + \min(\#\{d \le 0\}, \#\{d \ge 0\})) / (R + 1))$ over the R resamples in
    which both metrics are defined; it is never 0.

    Returns:
        None where either metric is not defined on the samples themselves.
    """
    drawn = resampled(difference(after, before), weights)
    if drawn is None:
        return None
    tail = min((drawn.values <= 0).sum(), (drawn.values >= 0).sum())
    p = min(1.0, 2.0 * (1 + int(tail)) / (len(drawn.values) + 1))
    return Gain(drawn.value, *percentiles(drawn.values, level), p)


def difference(after: Metric, before: Metric) -> Metric:
    """`after - before` on the same weights."""
    return lambda rows: after(rows) - before(rows)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A metric on the samples as they are, and on the resamples in which it is defined."""

    value: float
    values: Values


def resampled(metric: Metric, weights: Weights) -> Resampled | None:
    """Value of `metric` on the samples and on their resamples; None where it is not defined."""
    return defined(float(point(metric, weights.shape[1])), on_resamples(metric, weights))


def on_resamples(metric: Callable[[Weights], np.ndarray], weights: Weights) -> np.ndarray:
    """Value of `metric` on every resample, NaN where it is not defined; per class one row each."""
    parts = np.array_split(weights, min(len(weights), -(-weights.size // CHUNK)))
    return np.concatenate([metric(rows) for rows in parts])


def defined(value: float, values: Values) -> Resampled | None:
    """Keep the resamples that have a value; None without any, or where the samples have none."""
    values = values[~np.isnan(values)]
    return None if np.isnan(value) or not len(values) else Resampled(value, values)


def percentiles(values: Values, level: float) -> tuple[float, float]:
    """The ends of the central interval that holds `level` of the values."""
    low, high = np.quantile(values, tails(level))
    return float(low), float(high)
