"""Paired permutation tests: two methods that do not differ could exchange their answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.bootstrap import CHUNK
from atcon.evaluation.metric import Metric, Samples, Values

Kept = Bool[np.ndarray, "permutation sample"]

_ROUNDING = 100 * np.finfo(float).eps
"""Differences this close, relative to what is subtracted, are equal."""


@dataclass(frozen=True, slots=True)
class Swaps:
    """Which samples keep their answers in each permutation; elsewhere the methods exchange them.

    Attributes:
        kept: Boolean, `[permutation, sample]`.
        exact: Whether these are all permutations, each once.
    """

    kept: Kept
    exact: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference and the two-sided p-value of a test that gives no interval."""

    value: float
    p: float


def swaps(
    samples: int,
    permutations: int = 10_000,
    *,
    seed: int | np.random.Generator,
    groups: ArrayLike | None = None,
) -> Swaps:
    """Draw which samples exchange their answers: each with probability 1/2, or all ways there are.

    Args:
        samples: How many samples there are.
        permutations: How many to draw; where there are no more than these, all are listed.
        seed: A seed or a generator.
        groups: One name per sample (a patient, a video); whole groups are then exchanged.

    Raises:
        InputError: There is nothing to exchange, or `groups` does not name every sample once.
    """
    if samples < 1 or permutations < 1:
        raise InputError(f"cannot draw {permutations} permutations of {samples} samples")
    if groups is None:
        if samples < 63 and 2**samples <= permutations:
            listed = np.arange(2**samples)[:, None] >> np.arange(samples)
            return Swaps(listed % 2 == 0, exact=True)
        draw = np.random.default_rng(seed).integers(2, size=(permutations, samples), dtype=np.int8)
        return Swaps(draw == 0, exact=False)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if index.shape != (samples,):
        raise InputError(f"groups have shape {index.shape}, expected one name a sample ({samples})")
    whole = swaps(len(names), permutations, seed=seed)
    return Swaps(whole.kept[:, index], whole.exact)


def permutation_test(metrics: Metric | Sequence[Metric], exchanged: Swaps) -> Difference | None:
    r"""Test whether two methods answer equally well on the population of these test samples.

    The metric is one of the answers of both, stacked: the 2n samples are the n of the new method,
    then the same n of the old one, for instance

        f1(np.vstack([labels, labels]), np.vstack([new, old]))

    A permutation is then a row of weights 0 and 1, so every metric here can be tested, and groups
    exchange their answers whole. With P permutations drawn
    $p = \min(1, 2 (1 + \min(\#\{d \le d_0\}, \#\{d \ge d_0\})) / (P + 1))$; where all are listed,
    without the ones.

    Args:
        metrics: A function of the weights of 2n samples; or one for each training seed, whose mean
            is tested. An image is exchanged in all seeds at once, as they share it: this speaks of
            these very networks. Of other seeds speaks `permutation_over_seeds`.
        exchanged: What `swaps` gave.

    Returns:
        The difference, new minus old, and its p-value over the permutations in which it is defined;
        None where it is not defined on the samples themselves.
    """
    several = [metrics] if callable(metrics) else list(metrics)
    new, old = _answered(several, np.vstack([np.ones_like(exchanged.kept[:1]), exchanged.kept]))
    differences = new - old
    if np.isnan(differences[0]):
        return None
    tolerance = _ROUNDING * float(np.nanmax(np.abs([new, old])))
    return _tested(float(differences[0]), differences[1:], exchanged.exact, tolerance)


def permutation_over_seeds(
    differences: ArrayLike, permutations: int = 10_000, *, seed: int | np.random.Generator
) -> Difference:
    """Test whether two methods train equally good networks: they exchange whole runs, by seed.

    It speaks of these test samples only, as `paired_over_seeds` does, but asks for no normal
    distribution. Five seeds cannot give a p-value below 0.0625, six 0.031.

    Args:
        differences: New minus old, one per seed.
        permutations: How many to draw; where there are no more than these, all are listed.
        seed: A seed or a generator.

    Raises:
        InputError: There is no difference, or one is not finite.
    """
    d: Samples = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise InputError(f"a test over seeds needs finite differences, one per seed: {d.tolist()}")
    exchanged = swaps(len(d), permutations, seed=seed)
    means = np.where(exchanged.kept, d, -d).mean(axis=1)
    return _tested(float(d.mean()), means, exchanged.exact, _ROUNDING * float(np.abs(d).max()))


def _answered(metrics: Sequence[Metric], kept: Kept) -> tuple[Values, Values]:
    """The mean metric of who holds the new answers where they are kept, and of the other method.

    The weights are made a few rows at a time: all of them would take gigabytes.
    """
    new, old = [], []
    for rows in np.array_split(kept, min(len(kept), -(-2 * kept.size // CHUNK))):
        mine = np.hstack([rows, ~rows]).astype(float)
        new.append(np.mean([metric(mine) for metric in metrics], axis=0))
        old.append(np.mean([metric(1 - mine) for metric in metrics], axis=0))
    return np.concatenate(new), np.concatenate(old)


def _tested(value: float, permuted: Values, exact: bool, tolerance: float) -> Difference:
    permuted = permuted[~np.isnan(permuted)]
    tail = min((permuted <= value + tolerance).sum(), (permuted >= value - tolerance).sum())
    ones = 0 if exact else 1
    return Difference(value, min(1.0, 2.0 * (ones + int(tail)) / (len(permuted) + ones)))
