"""Whether a change depends on where it started, without the regression to the mean."""

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.metric import Metric, Values, Weights, checked_weights, divide

_NO_SPREAD = 1e-16


def gain_against_start(before: ArrayLike, after: ArrayLike) -> Metric:
    r"""Slope of after - before on before, as a function of sample weights.

    It is negative for two measurements of the same things that differ by noise alone: what was low
    by chance is higher the next time. With equal spread it is r - 1 (`regression_to_the_mean`), so
    it says nothing by itself; see `gain_against_middle`.
    """
    x, y = _samples(before, after)
    return _slope(x, y - x)


def gain_against_middle(before: ArrayLike, after: ArrayLike) -> Metric:
    r"""Slope of after - before on their mean, as a function of sample weights (Bland, Altman 1986).

    The covariance of the two is (var after - var before) / 2: it is 0 where the spread stayed the
    same, whatever the noise, and negative where what was low gained more than chance explains
    (Oldham, 1962).
    """
    x, y = _samples(before, after)
    return _slope((x + y) / 2, y - x)


def regression_to_the_mean(before: ArrayLike, after: ArrayLike) -> Metric:
    """Slope on the start that chance alone gives: correlation - 1, as a function of weights."""
    x, y = _samples(before, after)
    forth, back = _slope(x, y), _slope(y, x)

    def metric(weights: Weights) -> Values:
        slope, inverse = forth(weights), back(weights)
        return np.asarray(np.sign(slope) * np.sqrt(np.maximum(slope * inverse, 0)) - 1)

    return metric


def _samples(before: ArrayLike, after: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"before and after are of the same samples, but they have shapes {x.shape} and "
            f"{y.shape}"
        )
    return x, y


def _slope(x: np.ndarray, y: np.ndarray) -> Metric:
    """Weighted least squares over the samples in which both are known; NaN without spread."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = _centred(x, known), _centred(y, known)

    def metric(weights: Weights) -> Values:
        w = checked_weights(weights, len(known)) * known
        total = w.sum(axis=1)
        mean = divide(w @ x, total, undefined=np.nan)
        over = divide(w @ (x * y), total, undefined=np.nan) - mean * (w @ y) / np.maximum(total, 1)
        spread = divide(w @ (x * x), total, undefined=np.nan) - mean**2
        varies = np.where(spread > _NO_SPREAD, spread, 0)
        return divide(over, varies, undefined=np.nan)

    return metric


def _centred(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Subtract the mean, which changes no slope and keeps small spreads exact; 0 if not known."""
    mean = values[known].mean() if known.any() else 0.0
    return np.where(known, values - mean, 0.0)
