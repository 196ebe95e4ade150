"""What a method gains against the size of the training set, and what that says of larger sets.

Every number here is a weighted sum of a seed's gains at the sizes, averaged over the seeds with
Student's t. That is right for any scatter at each size and however the sizes of a seed vary
together, with few seeds too. What happens beyond the largest size no data can tell: two ways on are
followed, and the interval spans those of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atcon.errors import InputError
from atcon.evaluation.bootstrap import tails

Floats = NDArray[np.floating]
REACH = 1
"""Doublings beyond the largest measured size for which something is said."""
_LINE = 3
"""Sizes, the largest ones, through which the line beyond them is drawn."""
_STEPS = 8
"""Places of the curve in each doubling."""


@dataclass(frozen=True)
class Bounds:
    """Estimates between the ends of their intervals; each of any shape."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class GainCurve:
    """Paired gains of all seeds at all sizes.

    Attributes:
        sizes: The training-set sizes, rising.
        gains: After minus before, `[..., seed, size]`; the leading axes are other data alike.
        shared: Covariance `[size, size]` of the mean gains that comes from test images which all
            seeds share, and which therefore no number of seeds takes away.
    """

    sizes: tuple[int, ...]
    gains: Floats
    shared: Floats

    @property
    def seeds(self) -> int:
        """How many there are."""
        return int(self.gains.shape[-2])

    @property
    def reach(self) -> int:
        """The largest size of which something is said."""
        return self.sizes[-1] * (2**REACH if len(self.sizes) > 1 else 1)


def gain_curve(
    sizes: Sequence[int], gains: ArrayLike, shared: ArrayLike | None = None
) -> GainCurve:
    """Check the gains of a series of training-set sizes.

    Raises:
        InputError: The sizes do not rise, there are fewer than two seeds, or a gain is missing.
    """
    values, count = np.asarray(gains, dtype=float), len(sizes)
    common = np.zeros((count, count)) if shared is None else np.asarray(shared, dtype=float)
    if values.ndim < 2 or values.shape[-1] != count or common.shape != (count, count):
        raise InputError(
            f"gains have shape {values.shape} and their covariance {common.shape}: expected "
            f"[seed, size] and [size, size] with {count} sizes"
        )
    if not count or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
        raise InputError(f"training-set sizes {list(sizes)}: give whole numbers that rise")
    if values.shape[-2] < 2 or not np.isfinite(values).all():
        raise InputError("two or more seeds are needed, each with a gain at every size")
    return GainCurve(tuple(sizes), values, common)


def ways_to(curve: GainCurve, size: float) -> Floats:
    """Give the weights of a seed's gains that say what it gains at a size, `[way, size]`.

    To a measured size there is one way. Between two there are three: straight over log N from one
    to the other, or as at either, between which lies any gain that only rises or only falls there.
    Beyond all there are two: the gain follows the least-squares line over log N through the last
    three sizes, or stays as at the largest.

    Raises:
        InputError: The size is below the smallest, or beyond `reach`.
    """
    x, at = np.log2(curve.sizes), float(np.log2(size))
    if not curve.sizes[0] <= size <= curve.reach:
        raise InputError(
            f"N = {size:g} is out of reach: the gains at {', '.join(map(str, curve.sizes))} say "
            f"something of N = {curve.sizes[0]} to {curve.reach}"
        )
    units = np.eye(len(x))
    if size in curve.sizes:
        return units[[curve.sizes.index(int(size))]]
    if size < curve.sizes[-1]:
        above = int(np.searchsorted(x, at))
        straight = np.array([np.interp(at, x, unit) for unit in units])
        return np.stack([straight, units[above - 1], units[above]])
    line = np.zeros(len(x))
    last = x[-_LINE:]
    apart = last - last.mean()
    line[-_LINE:] = 1 / len(last) + (at - last.mean()) * apart / (apart**2).sum()
    return np.stack([line, units[-1]])


def at_size(curve: GainCurve, size: float, level: float) -> Bounds:
    """The gain at a size, `[...]`, as the first way to it has it; its interval spans all ways'.

    It covers at least as often as that of the right way.

    Raises:
        InputError: As for `ways_to`.
    """
    found = _student(curve, ways_to(curve, size), level)
    return Bounds(found.value[..., 0], found.low.min(axis=-1), found.high.max(axis=-1))


def places(curve: GainCurve) -> Floats:
    """Sizes from the smallest to the reach, evenly over log N, for drawing and for `fading`."""
    first, last = np.log2(curve.sizes[0]), np.log2(curve.reach)
    found = np.exp2(np.linspace(first, last, 1 + round(_STEPS * (last - first))))
    return np.clip(found, curve.sizes[0], curve.reach)  # against rounding


def fading(curve: GainCurve, least: float, level: float) -> Bounds:
    """The size from which the gain is below the least that matters, `[...]`.

    The interval has all sizes at which that of the gain holds `least` (Fieller, 1954), rounded
    outwards to `places`. NaN: up to the reach there is no such end. The smallest size: the gain is,
    or may be, below from the start.
    """
    sizes = places(curve)
    found = [at_size(curve, size, level) for size in sizes]
    value, low, high = (
        np.stack([getattr(one, end) for one in found], axis=-1) for end in ("value", "low", "high")
    )
    before = np.concatenate([sizes[:1], sizes[:-1]])
    above = high >= least
    last = len(sizes) - above[..., ::-1].argmax(axis=-1)
    after = np.where(above.any(axis=-1), sizes[np.minimum(last, len(sizes) - 1)], sizes[0])
    return Bounds(
        _first(value < least, sizes),
        _first(low < least, before),
        np.where(above[..., -1], np.nan, after),
    )


def _first(holds: NDArray[np.bool_], sizes: Floats) -> Floats:
    return np.where(holds.any(axis=-1), sizes[holds.argmax(axis=-1)], np.nan)


def shared_covariance(differences: ArrayLike, *, units: int) -> Floats:
    """Covariance `[size, size]` of the mean gains that comes from test images all seeds share.

    Over the resamples of the images two seeds vary together only by what the images have in common
    in both, as in `components`.

    Args:
        differences: After minus before on the same resamples, `[seed, size, resample]`.
        units: How many images, or whole groups, were resampled.

    Raises:
        InputError: There are fewer than two seeds, units, or resamples with a gain everywhere.
    """
    drawn = np.asarray(differences, dtype=float)
    drawn = drawn[..., ~np.isnan(drawn).any(axis=(0, 1))]
    seeds, sizes, resamples = drawn.shape
    if min(seeds, units, resamples) < 2:
        raise InputError(
            f"{seeds} seeds, {units} test images and {resamples} resamples in which both methods "
            "are defined: two or more of each are needed"
        )
    apart = drawn - drawn.mean(axis=-1, keepdims=True)
    together = apart.sum(axis=0)
    own = np.einsum("sir,sjr->ij", apart, apart)
    between = (together @ together.T - own) / (seeds * (seeds - 1)) / (resamples - 1)
    values, vectors = np.linalg.eigh(between * units / (units - 1))
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T).reshape(sizes, sizes)


def moments(curve: GainCurve, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and variance over seeds of weighted sums of the sizes, `[..., row]`.

    The third number, `[row]`, is the variance of the mean that comes from the shared test images.
    """
    sums = curve.gains @ weights.T
    common = np.einsum("ri,ij,rj->r", weights, curve.shared, weights)
    return sums.mean(axis=-2), sums.var(axis=-2, ddof=1), common


def half_width(variance: Floats, common: Floats, seeds: int, level: float) -> Floats:
    """Half of Student's interval of a mean over seeds that also has a known variance.

    The degrees of freedom are Satterthwaite's (1946).
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, few callers

    own = variance / seeds
    whole = own + common
    share = np.divide(own, whole, out=np.ones_like(whole), where=whole > 0)
    freedom = (seeds - 1) / np.maximum(share, 1e-6) ** 2
    return np.asarray(stdtrit(freedom, tails(level)[1]) * np.sqrt(whole))


def _student(curve: GainCurve, weights: Floats, level: float) -> Bounds:
    value, variance, common = moments(curve, weights)
    half = half_width(variance, common, curve.seeds, level)
    return Bounds(value, value - half, value + half)
