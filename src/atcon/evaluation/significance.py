"""Claims over several comparisons (Holm) and over several seeds (paired t)."""

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.bootstrap import Gain, tails
from atcon.evaluation.metric import Samples


def holm(p_values: ArrayLike) -> Samples:
    """Holm's step-down adjustment, in the order given.

    A hypothesis is rejected at family-wise level a exactly if its adjusted p-value is <= a
    (Holm, 1979).

    Raises:
        InputError: A p-value is outside [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p-values must be a list of numbers in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def paired_over_seeds(differences: ArrayLike, *, level: float = 0.95) -> Gain:
    """Mean difference over seeds with Student's t interval and two-sided p-value.

    Args:
        differences: After minus before, one per seed.
        level: Coverage of the interval.

    Raises:
        InputError: Fewer than two seeds, or a difference that is not finite.
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - half a second, few callers

    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise InputError(f"a test over seeds needs two or more finite differences: {d.tolist()}")
    freedom, mean = len(d) - 1, float(d.mean())
    error = 0.0 if np.ptp(d) == 0 else float(d.std(ddof=1) / np.sqrt(len(d)))
    margin = float(stdtrit(freedom, tails(level)[1])) * error
    if error == 0:
        return Gain(mean, mean, mean, float(mean == 0))
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Gain(mean, mean - margin, mean + margin, p)
