"""BCa bootstrap: the percentile interval, corrected for bias and skewness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.bootstrap import (
    CHUNK,
    Gain,
    Interval,
    Resampled,
    difference,
    resampled,
    tails,
)
from atcon.evaluation.metric import Metric, Values, Weights


def bca(
    metric: Metric, weights: Weights, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Interval | None:
    r"""Bias-corrected and accelerated interval of `metric` (Efron, 1987).

    Its ends are quantiles of the resamples at $\Phi(z_0 + (z_0 + z) / (1 - a (z_0 + z)))$, where
    $z_0$ says how far the value lies from the median of its resamples, and $a$ how skewed the
    influence of the units is, by the jackknife over images, or over whole groups.

    Args:
        metric: A function of sample weights.
        weights: What `resample_weights` gave.
        groups: As they were given to `resample_weights`.
        level: Coverage of the interval.

    Returns:
        None where the metric is not defined on the samples themselves, and where its value lies
        beyond all its resamples, which leaves no bias to correct.
    """
    corrected = _corrected_metric(metric, weights, groups)
    if corrected is None:
        return None
    return Interval(corrected.drawn.value, *corrected.ends(level))


def paired_bca(
    after: Metric,
    before: Metric,
    weights: Weights,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Gain | None:
    """BCa interval of `after - before` on the same resamples, and its p-value.

    The two-sided p-value is where the interval would just touch 0: the share of resamples on the
    other side, as `paired_bootstrap` counts it, corrected as the ends are; it is never 0.

    Returns:
        None where either metric is not defined on the samples themselves, or as in `bca`.
    """
    corrected = _corrected_metric(difference(after, before), weights, groups)
    if corrected is None:
        return None
    return Gain(corrected.drawn.value, *corrected.ends(level), corrected.p_of_zero())


def jackknife(metric: Metric, samples: int, *, groups: ArrayLike | None = None) -> Values:
    """Value of `metric` without each unit in turn, NaN where it is not defined.

    Args:
        metric: A function of sample weights.
        samples: How many samples there are.
        groups: One name per sample; whole groups are then left out, in the order of their names.

    Raises:
        InputError: There are fewer than two units, or `groups` does not name every sample once.
    """
    names = np.arange(samples) if groups is None else np.asarray(groups)
    if names.shape != (samples,):
        raise InputError(f"groups have shape {names.shape}, expected one name a sample ({samples})")
    units, unit = np.unique(names, return_inverse=True)
    if len(units) < 2:
        raise InputError(f"cannot leave one of {len(units)} units out: need two or more")
    parts = np.array_split(np.arange(len(units)), -(-len(units) * samples // CHUNK))
    return np.concatenate(
        [metric((part[:, None] != unit).astype(float)) for part in parts if len(part)]
    )


@dataclass(frozen=True, slots=True)
class Corrected:
    """A bootstrap distribution with its bias `z0` and its acceleration `a`."""

    drawn: Resampled
    z0: float
    a: float

    def ends(self, level: float) -> tuple[float, float]:
        """The quantiles at the corrected probabilities."""
        from scipy.special import ndtri  # noqa: PLC0415 - slow to import, few callers

        low, high = np.quantile(
            self.drawn.values, [self._shifted(float(ndtri(tail))) for tail in tails(level)]
        )
        return float(low), float(high)

    def p_of_zero(self) -> float:
        """The two-sided p-value of 0: one minus the level at which it becomes an end."""
        values = self.drawn.values
        below, above = ((1 + int(side.sum())) / (len(values) + 1) for side in
                        (values <= 0, values >= 0))  # fmt: skip
        smallest = 1 / (len(values) + 1)
        tail = min(self._unshifted(below), 1 - self._unshifted(1 - above))
        return min(1.0, 2 * max(smallest, tail))

    def _shifted(self, z: float) -> float:
        from scipy.special import ndtr  # noqa: PLC0415

        moved = self.z0 + z
        stretch = 1 - self.a * moved
        return float(ndtr(self.z0 + moved / stretch)) if stretch > 0 else float(moved > 0)

    def _unshifted(self, probability: float) -> float:
        """The inverse of `_shifted`, from and to a probability."""
        from scipy.special import ndtr, ndtri  # noqa: PLC0415

        if probability in (0, 1):
            return probability
        moved = float(ndtri(probability)) - self.z0
        stretch = 1 + self.a * moved
        return float(ndtr(moved / stretch - self.z0)) if stretch > 0 else float(moved > 0)


def corrected(drawn: Resampled, left_out: Sequence[Values]) -> Corrected | None:
    r"""Find bias and acceleration of a bootstrap distribution.

    $a = \frac16 \sum_f \sum_i (l_{fi} / n_f)^3 / (\sum_f \sum_i (l_{fi} / n_f)^2)^{3/2}$ with
    $l_{fi} = (n_f - 1)(\bar v_f - v_{fi})$ over the units i of every factor f that is resampled.

    Args:
        drawn: The value and its resamples.
        left_out: For every factor what `jackknife` gives; values that are not defined are left out.

    Returns:
        None where the value lies beyond all its resamples.
    """
    from scipy.special import ndtri  # noqa: PLC0415

    below, equal = (drawn.values < drawn.value).mean(), (drawn.values == drawn.value).mean()
    z0 = float(ndtri(below + equal / 2))
    if not np.isfinite(z0):
        return None
    parts = [values[~np.isnan(values)] for values in left_out]
    influence = np.concatenate([(1 - 1 / len(v)) * (v.mean() - v) for v in parts if len(v)])
    spread = float((influence**2).sum()) ** 1.5
    return Corrected(drawn, z0, float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0)


def _corrected_metric(
    metric: Metric, weights: Weights, groups: ArrayLike | None
) -> Corrected | None:
    drawn = resampled(metric, weights)
    if drawn is None:
        return None
    return corrected(drawn, [jackknife(metric, weights.shape[1], groups=groups)])
