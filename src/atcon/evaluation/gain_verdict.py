"""Whether a method helps at a training-set size, and how many more seeds would tell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atcon.errors import InputError
from atcon.evaluation.gain_curve import Floats, GainCurve, at_size, half_width, moments, ways_to

HELPS, SAME, HARMS, OPEN = "helps", "no difference", "harms", "cannot tell yet"
SEEDS = 200
"""Where the search for the seeds that are needed ends."""
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

    * "no difference": the interval of the confidence lies within ± least.
    * "helps", "harms": else, the strict interval lies above, or below, 0.
    * "cannot tell yet": neither.

    Raises:
        InputError: The size is out of reach.
    """
    wide, strict = (at_size(curve, size, level) for level in (rule.confidence, rule.strict))
    same = (wide.low > -rule.least) & (wide.high < rule.least)
    return np.select([same, strict.low > 0, strict.high < 0], [SAME, HELPS, HARMS], OPEN)


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
    for seeds in range(curve.seeds + 1, most + 1):
        if _chance(value, variance, common, seeds, rule) >= wanted:
            return seeds
    return None


def _chance(value: Floats, variance: Floats, common: Floats, seeds: int, rule: Rule) -> float:
    """Probability of the likeliest verdict: that its least sure way gives it."""
    from scipy.special import ndtr  # noqa: PLC0415 - slow to import, few callers

    spread = np.maximum(np.sqrt(variance / seeds + common), 1e-12)
    inside = rule.least - half_width(variance, common, seeds, rule.confidence)
    clear = half_width(variance, common, seeds, rule.strict)
    same = ndtr((inside - value) / spread) - ndtr((-inside - value) / spread)
    helps, harms = (ndtr((sign * value - clear) / spread) for sign in (1, -1))
    return max(float(one.min()) for one in (same, helps, harms))
