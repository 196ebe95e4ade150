"""The structural similarity index (Wang et al., 2004) of maps of any size and number of axes."""

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.consistency.windows import local_means
from atcon.types import Maps

SIDE, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def ssim(first: Maps, second: Maps) -> Float[Tensor, " batch"]:
    """Structural similarity of each pair of maps, both rescaled to [0, 1] first.

    Attention maps have no common unit, so each is rescaled by its own lowest and highest value: the
    result ignores positive scales and shifts of either map. A map without contrast, beyond the
    rounding of its type, has no structure: its value is 0 and its gradient is 0.
    """
    a, a_varies = _rescaled(first)
    b, b_varies = _rescaled(second)
    return torch.where(a_varies & b_varies, structural_similarity(a, b), 0)


def structural_similarity(
    first: Maps, second: Maps, *, data_range: float = 1.0
) -> Float[Tensor, " batch"]:
    """Mean SSIM over all windows inside the maps, single scale, with population (co)variances.

    Args:
        first: `[batch, *grid]`.
        second: Of the same shape.
        data_range: The largest possible difference of two values, L in C = (K L)^2.

    Returns:
        One value in [-1, 1] for each pair. For maps of 21 and more cells in every axis it is that
        of scikit-image with `gaussian_weights=True, use_sample_covariance=False` (torchmetrics
        also counts windows that reach beyond the border). On a smaller axis the window is half as
        long as the axis, at least two cells.
    """
    mean_a, mean_b, square_a, square_b, product = (
        local_means(values, SIDE, SIGMA)
        for values in (first, second, first.square(), second.square(), first * second)
    )
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    both = mean_a.square() + mean_b.square()
    luminance = (2 * mean_a * mean_b + c1) / (both + c1)
    structure = (2 * (product - mean_a * mean_b) + c2) / (square_a + square_b - both + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def _rescaled(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Rescale each map to [0, 1]; give it with whether it has contrast.

    It is first divided by its own size, taken as a constant, so that its gradient neither
    overflows nor vanishes on the way.
    """
    axes = tuple(range(1, maps.ndim))
    peak = maps.detach().abs().amax(dim=axes, keepdim=True)
    usable = (peak > torch.finfo(maps.dtype).tiny ** 0.5) & peak.isfinite()
    scaled = maps / torch.where(usable, peak, 1)
    low = scaled.amin(dim=axes, keepdim=True)
    span = scaled.amax(dim=axes, keepdim=True) - low
    varies = usable & (span.detach() > 20 * torch.finfo(maps.dtype).eps)
    rescaled = torch.where(varies, (scaled - low) / torch.where(varies, span, 1), 0)
    return rescaled, varies.flatten()
