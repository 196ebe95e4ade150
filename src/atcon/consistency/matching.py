"""Three ways to compare maps of different resolution, and the rows of table 4 made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from atcon.consistency.windows import blurred
from atcon.errors import InputError
from atcon.types import LayerMaps, Maps

_Common = Float[Tensor, "batch *common"]
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_POOLS: dict[tuple[str, int], Callable[[Tensor, Any], Tensor]] = {
    ("max", 1): functional.adaptive_max_pool1d,
    ("max", 2): functional.adaptive_max_pool2d,
    ("max", 3): functional.adaptive_max_pool3d,
    ("average", 1): functional.adaptive_avg_pool1d,
    ("average", 2): functional.adaptive_avg_pool2d,
    ("average", 3): functional.adaptive_avg_pool3d,
}


@dataclass(frozen=True)
class Matching:
    """How two maps A_i, A_j (i < j) of a sample are brought to one resolution.

    Attributes:
        by: "mask": A_j masks the input, A_i is computed again on it and compared with itself;
            "upsample": the coarser map is interpolated linearly to the finer grid;
            "pool": the finer map is pooled to the coarser grid.
        maps: The names of A_1, A_2, ...; None leaves them to the user.
        pooling: Of "pool": "max", the largest value, or "average".
        smooth: Of "upsample": the standard deviation, in cells, of a Gaussian blur before it.
    """

    by: str
    maps: tuple[str, ...] | None = None
    pooling: str = "max"
    smooth: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no way of matching."""
        if self.by not in ("mask", "upsample", "pool") or self.pooling not in ("max", "average"):
            raise InputError(
                f"a matching is by 'mask', 'upsample' or 'pool' (pooling 'max' or 'average'), "
                f"not by {self.by!r} with pooling {self.pooling!r}"
            )
        if self.smooth < 0:
            raise InputError(f"smooth must be 0 or larger, but it is {self.smooth}")

    def match(self, first: Maps, second: LayerMaps) -> tuple[_Common, _Common]:
        """Bring two maps to one resolution, by "upsample" or "pool"."""
        sizes = list(zip(first.shape[1:], second.shape[1:], strict=True))
        if self.by == "upsample":
            finer = tuple(max(pair) for pair in sizes)
            return upsampled(first, finer, self.smooth), upsampled(second, finer, self.smooth)
        coarser = tuple(min(pair) for pair in sizes)
        return pooled(first, coarser, self.pooling), pooled(second, coarser, self.pooling)


def upsampled(maps: Maps, size: tuple[int, ...], smooth: float = 0.0) -> LayerMaps:
    """Interpolate maps linearly between the centres of their cells; those of that size stay.

    Args:
        maps: `[batch, *grid]`, with one to three axes.
        size: The new grid.
        smooth: Standard deviation, in cells, of a Gaussian blur before.
    """
    if maps.shape[1:] == size:
        return maps
    mode = _LINEAR[_axes(maps)]
    return functional.interpolate(blurred(maps, smooth)[:, None], size, mode=mode)[:, 0]


def pooled(maps: Maps, size: tuple[int, ...], pooling: str = "max") -> LayerMaps:
    """Pool maps to a coarser grid, each cell over its part of the fine one; those of it stay."""
    if maps.shape[1:] == size:
        return maps
    return _POOLS[pooling, _axes(maps)](maps[:, None], size)[:, 0]


def _axes(maps: Maps) -> int:
    axes = maps.ndim - 1
    if axes not in _LINEAR:
        raise InputError(f"maps of one to three axes can be resized, but these have {axes}")
    return axes


MATCHINGS: dict[str, Matching] = {
    "mask": Matching("mask"),
    "upsample": Matching("upsample"),
    "pool": Matching("pool"),
    "average_pool": Matching("pool", pooling="average"),
    "guided_backprop_mask": Matching("mask", ("grad_cam", "guided_backprop")),
    "grad_cam_mask": Matching("mask", ("guided_backprop", "grad_cam")),
    "grad_cam_upsampled": Matching("upsample", ("grad_cam", "guided_backprop")),
    "guided_backprop_pooled": Matching("pool", ("grad_cam", "guided_backprop")),
}
"""Every matching by its name: four for any maps, and the rows of table 4."""
