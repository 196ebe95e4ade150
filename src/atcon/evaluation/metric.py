"""What a metric is here: a function of sample weights, one value per row of weights.

One row of ones gives the point value, rows of multinomial counts give the bootstrap: the same code
serves both, vectorised over the resamples.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from atcon.errors import InputError

Weights = Float[np.ndarray, "resamples sample"]
Values = Float[np.ndarray, " resamples"]
ClassValues = Float[np.ndarray, "resamples class"]
Samples = Float[np.ndarray, " sample"]
Marks = Bool[np.ndarray, " sample"]
Labels = Bool[np.ndarray, "sample class"]
Scores = Float[np.ndarray, "sample class"]

Metric = Callable[[Weights], Values]
"""One value per resample, NaN where the metric is not defined in it."""

ClassMetric = Callable[[Weights], ClassValues]
"""One value per resample and class, NaN where the metric is not defined there."""


def point(metric: Callable[[Weights], np.ndarray], samples: int) -> np.ndarray:
    """Value of `metric` on the samples as they are: a scalar array, or one value per class."""
    return np.asarray(metric(np.ones((1, samples)))[0])


def weighted_mean(values: ArrayLike, valid: ArrayLike) -> Metric:
    """Mean of `values` over the valid samples: IoU of true positives, consistency, energy.

    Args:
        values: One per sample; what stands at a sample that is not valid is ignored.
        valid: Which samples count.

    Returns:
        A metric that is NaN where no valid sample has weight.

    Raises:
        InputError: A valid value is not finite, or the lengths differ.
    """
    keep = np.array(valid, dtype=bool)  # a copy: the caller may change its own
    numbers = np.asarray(values, dtype=float)
    if keep.shape != numbers.shape or keep.ndim != 1:
        raise InputError(f"values {numbers.shape} and valid {keep.shape}: one of each a sample")
    if not np.isfinite(numbers[keep]).all():
        wrong = int(np.flatnonzero(keep & ~np.isfinite(numbers))[0])
        raise InputError(f"sample {wrong} is valid, but its value is {numbers[wrong]}")
    numbers = np.where(keep, numbers, 0.0)

    def metric(weights: Weights) -> Values:
        rows = checked_weights(weights, len(keep))
        return divide(rows @ numbers, rows @ keep.astype(float), undefined=np.nan)

    return metric


def checked_weights(weights: Weights, samples: int) -> Weights:
    """Return `weights` in double precision.

    Raises:
        InputError: They are not of shape `[resamples, samples]`.
    """
    rows = np.asarray(weights, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != samples:
        raise InputError(f"weights have shape {rows.shape}, expected [resamples, {samples}]")
    return rows


def divide(numerator: np.ndarray, denominator: np.ndarray, *, undefined: float) -> np.ndarray:
    """Quotient, with `undefined` wherever the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), undefined)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
