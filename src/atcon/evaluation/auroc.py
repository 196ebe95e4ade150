"""The area under the ROC curve, and what it says of two sets of numbers: which are lower."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.bootstrap import Interval, bootstrap, resample_weights
from atcon.evaluation.metric import Metric, Samples, Values, Weights, checked_weights, divide


def auroc(positive: ArrayLike, scores: ArrayLike) -> Metric:
    """Probability that a positive has the higher score than a negative; ties count half.

    Equal to `sklearn.metrics.roc_auc_score` with `sample_weight`, but all resamples at once.

    Args:
        positive: Boolean, one per sample.
        scores: One per sample; higher is more positive.

    Returns:
        A metric that is NaN where the positives or the negatives have no weight.

    Raises:
        InputError: The lengths differ, or a score is NaN.
    """
    truth, numbers = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=float)
    if truth.ndim != 1 or truth.shape != numbers.shape:
        raise InputError(f"positive {truth.shape} and scores {numbers.shape}: one of each a sample")
    if np.isnan(numbers).any():
        raise InputError(f"sample {int(np.isnan(numbers).argmax())}: the score is NaN")
    order = np.argsort(numbers, kind="stable")
    cuts = np.unique(numbers[order], return_index=True)[1]
    marks = truth[order, None]

    def metric(weights: Weights) -> Values:
        rows = checked_weights(weights, len(truth))
        if not len(truth):
            return np.full(len(rows), np.nan)
        by_sample = rows.T[order]
        above = np.add.reduceat(by_sample * marks, cuts, axis=0)
        below = np.add.reduceat(by_sample * ~marks, cuts, axis=0)
        won = above * (below.cumsum(axis=0) - below / 2)
        pairs = above.sum(axis=0) * below.sum(axis=0)
        return divide(won.sum(axis=0), pairs, undefined=np.nan)

    return metric


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the numbers of one set lie beside those of a reference.

    Attributes:
        lower: Probability that a number of the set is lower than one of the reference, ties count
            half (Mann-Whitney's U over the pairs); 0.5 where neither set is lower.
        interval: Of it; None where a set has fewer than two samples, or groups.
        rank_p: Two-sided p-value of Mann and Whitney; takes every sample for independent.
        distance: Of Kolmogorov and Smirnov: largest difference of the two distributions.
        distance_p: Its p-value; likewise.
        smallest: The smallest `lower` that would be found in four of five cases; None where there
            is none below 1.
        units: Samples, or whole groups, of the reference and of the set.
    """

    lower: float
    interval: Interval | None
    rank_p: float
    distance: float
    distance_p: float
    smallest: float | None
    units: tuple[int, int]


def shift(
    reference: ArrayLike,
    others: ArrayLike,
    *,
    groups: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Shift:
    """Compare two independent sets of numbers; the interval resamples each of them.

    Args:
        reference: Numbers.
        others: Numbers.
        groups: One name per number of each set (a patient, a video); whole groups are resampled.
        resamples: How many.
        level: Coverage of the interval.
        seed: Of the resamples.

    Raises:
        InputError: A set is empty or holds what is no number.
    """
    from scipy.stats import ks_2samp, mannwhitneyu  # noqa: PLC0415 - slow to import, few callers

    sets = _checked(reference), _checked(others)
    generator = np.random.default_rng(seed)
    counts = [_units(values, names) for values, names in zip(sets, groups, strict=True)]
    is_other = np.repeat([False, True], [len(values) for values in sets])
    metric = auroc(is_other, -np.concatenate(sets))
    drawn = [
        resample_weights(len(values), resamples, seed=generator, groups=names)
        for values, names in zip(sets, groups, strict=True)
    ]
    interval = bootstrap(metric, np.hstack(drawn), level=level) if min(counts) > 1 else None
    apart = ks_2samp(*sets, method="exact" if max(map(len, sets)) < 200 else "asymp")
    return Shift(
        lower=float(metric(np.ones((1, len(is_other))))[0]),
        interval=interval,
        rank_p=float(mannwhitneyu(*sets, method="asymptotic").pvalue),
        distance=float(apart.statistic),
        distance_p=float(apart.pvalue),
        smallest=smallest_shift(*counts, level=level),
        units=(counts[0], counts[1]),
    )


def smallest_shift(
    first: int, second: int, *, level: float = 0.95, power: float = 0.8
) -> float | None:
    r"""The smallest `Shift.lower` above 0.5 that two sets of so many samples show.

    $0.5 + (z_{(1 + level)/2} + z_{power}) \sqrt{(n + m + 1) / (12 n m)}$, from the variance of
    Mann-Whitney's U where the sets do not differ; None where that is not below 1.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    spread = np.sqrt((first + second + 1) / (12 * first * second))
    found = 0.5 + float((ndtri((1 + level) / 2) + ndtri(power)) * spread)
    return found if found < 1 else None


def _checked(values: ArrayLike) -> Samples:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise InputError(f"a set of shape {numbers.shape}: expected one finite number per sample")
    return numbers


def _units(values: Samples, groups: ArrayLike | None) -> int:
    return len(values) if groups is None else len(np.unique(np.asarray(groups)))
