"""How many training seeds and test images it takes to see a gain."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.bootstrap import tails

SEEDS, UNITS = 200, 10**7
"""Where the search for what is needed ends."""


@dataclass(frozen=True, slots=True)
class Components:
    """Why measured gains differ: the parts of the variance of one paired difference.

    Attributes:
        seeds: Between training seeds, however many images they are tested on.
        shared: Of one test image (or group), in common to all seeds.
        own: Of one test image (or group), anew in every seed.
    """

    seeds: float
    shared: float
    own: float


def components(differences: ArrayLike, points: ArrayLike, *, units: int) -> Components:
    r"""Estimate the parts of the variance of a gain from a pilot.

    Over the resamples of the test images two seeds vary together only by what the images have in
    common in both; what else one seed varies by is its own. That own part, which also sets the
    seeds apart on the images as they are, is taken off the variance between seeds.

    Args:
        differences: After minus before on the same resamples for every seed, `[seed, resample]`.
        points: After minus before on the test images, one per seed.
        units: How many images, or whole groups, were resampled.

    Raises:
        InputError: There are fewer than two seeds, resamples or units, or the shapes do not belong
            together.
    """
    drawn, values = np.asarray(differences, dtype=float), np.asarray(points, dtype=float)
    if drawn.ndim != 2 or values.shape != drawn.shape[:1]:
        raise InputError(
            f"differences have shape {drawn.shape} and their points {values.shape}: "
            "expected [seed, resample] and [seed]"
        )
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    if min(*drawn.shape, units) < 2 or not np.isfinite(values).all():
        raise InputError(
            f"a pilot of {len(values)} seeds, {units} test images and {drawn.shape[1]} resamples "
            "in which both methods are defined: two or more of each are needed"
        )
    covariance = np.cov(drawn) * units / (units - 1)
    within = float(np.trace(covariance)) / len(values)
    shared = (float(covariance.sum()) / len(values) - within) / (len(values) - 1)
    shared = min(max(shared, 0.0), within)
    between = float(values.var(ddof=1)) - (within - shared)
    return Components(max(between, 0.0), units * shared, units * (within - shared))


def power(
    parts: Components,
    gain: float,
    *,
    seeds: int,
    units: int,
    alpha: float = 0.05,
    trials: int = 10_000,
    seed: int = 0,
) -> float:
    """Probability that a true gain will be found clear, by the rule of `atcon compare`.

    Clear is a gain whose p-value is below `alpha` both by `hierarchical_bootstrap` and by Student's
    t over the seeds. Experiments are drawn from normal distributions with the parts of the
    variance; the bootstrap's own variance of the mean is known in them, so none is resampled.

    Args:
        parts: From `components`.
        gain: The true gain, in the unit of the pilot's differences.
        seeds: Training seeds of each method.
        units: Test images, or groups.
        alpha: Divide it by the number of comparisons to allow for Holm's correction.
        trials: Drawn experiments; 10,000 give the power to about half a percent.
        seed: Of the draws.

    Raises:
        InputError: There are fewer than two seeds or units, or `alpha` is no probability.
    """
    from scipy.special import ndtri, stdtrit  # noqa: PLC0415 - slow to import, few callers

    if seeds < 2 or units < 2:
        raise InputError(f"{seeds} seeds and {units} test images: two or more of each are needed")
    upper = tails(1 - alpha)[1]
    generator = np.random.default_rng(seed)
    own, shared = parts.own / units, parts.shared / units
    runs = gain + np.sqrt(parts.seeds + own) * generator.normal(size=(trials, seeds))
    means = runs.mean(axis=1) + np.sqrt(shared) * generator.normal(size=trials)
    between = runs.var(axis=1)
    over_seeds = np.sqrt(between / (seeds - 1))
    resampled = np.sqrt(shared + own / seeds + (between + own * (1 - 1 / seeds)) / seeds)
    limits = np.maximum(
        float(stdtrit(seeds - 1, upper)) * over_seeds, float(ndtri(upper)) * resampled
    )
    return float((np.sign(gain) * means > limits).mean())


def needed_seeds(
    parts: Components, gain: float, *, units: int, wanted: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest seeds whose power is `wanted`; None where not even 200 are enough."""
    return _smallest(
        lambda seeds: power(parts, gain, seeds=seeds, units=units, alpha=alpha), SEEDS, wanted
    )


def needed_units(
    parts: Components, gain: float, *, seeds: int, wanted: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest test images (or groups) whose power is `wanted`; None where none are enough."""
    return _smallest(
        lambda units: power(parts, gain, seeds=seeds, units=units, alpha=alpha), UNITS, wanted
    )


def _smallest(promised: Callable[[int], float], most: int, wanted: float) -> int | None:
    candidates = range(2, most + 1)
    at = bisect_left(candidates, wanted, key=promised)
    return candidates[at] if at < len(candidates) else None
