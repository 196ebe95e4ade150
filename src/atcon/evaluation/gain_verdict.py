"""Whether a method helps at a training-set size, and how many more seeds would tell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atcon.errors import InputError
from atcon.evaluation.gain_curve import Floats, GainCurve, at_size, half_width, moments, ways_to

HELPS, SAME, HARMS, OPEN = "helps", "no difference", "harms", "cannot tell yet"
SEEDS = 200
"""Where the search for the seeds that are needed ends."""
_MOVED, _STILL = 5, 22
"""Runs that changed anything, or else runs in all, before "no difference" is said: of 22 runs that
all kept their start, at most a tenth of all runs gain anything (0.9²² < 0.1)."""
_STRICT = 10
"""How many times rarer a false gain or harm is than an interval of the confidence misses."""


@dataclass(frozen=True)
class Rule:
    """When a verdict is given.

    Attributes:
        least: The smallest gain that matters, in points.
        confidence: Of the interval that says "no difference".
    """

    least: float
    confidence: float = 0.9

    def __post_init__(self) -> None:
        """Refuse numbers that are none of their kind."""
        if not (np.isfinite(self.least) and self.least > 0):
            raise InputError(f"the least gain that matters is {self.least}: give one above 0")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"a confidence of {self.confidence}: give one such as 0.9")

    @property
    def strict(self) -> float:
        """Level of the interval that must leave out 0 for a gain or a harm: 99 % for 90 %.

        With few seeds and no true gain, "no difference" is seldom reached. Were a gain claimed as
        easily as it is ruled out, most of the few verdicts there would be wrong.
        """
        return 1 - (1 - self.confidence) / _STRICT


def verdict(curve: GainCurve, size: float, rule: Rule) -> NDArray[np.str_]:
    """Give the verdict at a size, `[...]`.

    * "no difference": the interval of the confidence lies within ± least, and enough runs changed
      anything: many keep their start, with a gain of exactly 0, and a few such zeros look certain.
    * "helps", "harms": else, the strict interval lies above, or below, 0.
    * "cannot tell yet": neither.

    Raises:
        InputError: The size is out of reach.
    """
    wide, strict = (at_size(curve, size, level) for level in (rule.confidence, rule.strict))
    same = (wide.low > -rule.least) & (wide.high < rule.least)
    same &= _is_enough(_moved(curve, size) * curve.seeds, curve.seeds)
    return np.select([same, strict.low > 0, strict.high < 0], [SAME, HELPS, HARMS], OPEN)


def _moved(curve: GainCurve, size: float) -> Floats:
    """Share of the seeds that gain or lose anything, on the way to a size where fewest do."""
    sums = curve.gains @ ways_to(curve, size).T
    return np.asarray((np.abs(sums) > 1e-9).mean(axis=-2).min(axis=-1))


def _is_enough(moved: Floats, seeds: int) -> NDArray[np.bool_]:
    return np.asarray((np.round(moved, 6) >= min(seeds, _MOVED)) | (seeds >= _STILL))


def seeds_to_tell(
    curve: GainCurve, size: float, rule: Rule, *, wanted: float = 0.8, most: int = SEEDS
) -> int | None:
    """The fewest seeds, in all, that give a verdict in `wanted` of all experiments.

    It holds if the gains and their scatter are as measured, which few seeds know only roughly.
    None: not even `most` seeds are enough, since the ways on disagree, the test images alone leave
    it open, or the gain is close to the least that matters.

    Raises:
        InputError: The size is out of reach, or there is more than one series of gains.
    """
    if curve.gains.ndim != 2:
        raise InputError(f"gains of shape {curve.gains.shape}: expected those of one series")
    value, variance, common = moments(curve, ways_to(curve, size))
    moved = _moved(curve, size)
    for seeds in range(curve.seeds + 1, most + 1):
        same, clear = _chances(value, variance, common, seeds, rule)
        if not _is_enough(moved * seeds, seeds):
            same = 0.0
        if max(clear, same) >= wanted:
            return seeds
    return None


def _chances(
    value: Floats, variance: Floats, common: Floats, seeds: int, rule: Rule
) -> tuple[float, float]:
    """Probability of "no difference", and of the likelier of the others, on the least sure way."""
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import, few callers

    spread = np.maximum(np.sqrt(variance / seeds + common), 1e-12)
    inside = rule.least - half_width(variance, common, seeds, rule.confidence)
    clear = half_width(variance, common, seeds, rule.strict)
    same = ndtr((inside - value) / spread) - ndtr((-inside - value) / spread)
    helps, harms = (ndtr((sign * value - clear) / spread) for sign in (1, -1))
    return float(same.min()), max(float(helps.min()), float(harms.min()))
