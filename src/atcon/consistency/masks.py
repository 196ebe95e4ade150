"""From a map to an input mask P in (0, 1) (Eq. 6 and its variants), one mask for all channels.

Mean, standard deviation and variance are over the positions of one map, unbiased. A map without
contrast gives P = 0.5 everywhere and no gradient. A map with a sign is taken as it is: P grows
with A, so evidence against the class is masked out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from atcon.types import Maps

Mask = Callable[[Tensor], Tensor]


def variance_mask(maps: Maps) -> Maps:
    """P = logistic((A - mean) / variance): Eq. 6 as printed; not scale-free."""
    standard, deviation = _standardised(maps)
    return torch.sigmoid(standard / torch.where(deviation > 0, deviation, 1))


def deviation_mask(maps: Maps) -> Maps:
    """P = logistic((A - mean) / standard deviation): Eq. 6 as its source has it; scale-free."""
    standard, _ = _standardised(maps)
    return torch.sigmoid(standard)


def reference_mask(maps: Maps, *, slope: float = 8.0) -> Maps:
    """P = logistic(slope * (A - mean - standard deviation / 2)): the authors' code; not scale-free.

    Args:
        maps: `[batch, *grid]`.
        slope: 8, 40 or 100 in the authors' code.
    """
    standard, deviation = _standardised(maps)
    return torch.sigmoid(slope * deviation * (standard - 0.5))


def uniform_mask(maps: Maps, *, value: float = 0.5) -> Maps:
    """P = `value` everywhere: the control that dims the image and masks nothing."""
    return torch.full_like(maps, value)


def squashed(maps: Maps) -> Maps:
    """Standardise a map and pass it through the logistic function, as the authors' code does."""
    return torch.sigmoid(_standardised(maps)[0])


def _standardised(maps: Maps) -> tuple[Tensor, Tensor]:
    """Give (A - mean) / std and std, `[batch, *ones]`; zeros for a map without contrast.

    The map is first divided by its own size, taken as a constant, so that neither tiny nor huge
    maps overflow in the value or in the gradient.
    """
    axes = tuple(range(1, maps.ndim))
    size = maps.detach().abs().amax(dim=axes, keepdim=True)
    usable = (size > 1e-12) & size.isfinite()
    size = torch.where(usable, size, 1)
    scaled = maps / size
    centred = scaled - scaled.mean(dim=axes, keepdim=True)
    variance = centred.square().sum(dim=axes, keepdim=True) / max(maps.shape[1:].numel() - 1, 1)
    floor = (10 * torch.finfo(maps.dtype).eps) ** 2
    varies = usable & (variance.detach() > floor)
    deviation = torch.where(varies, variance, 1).sqrt()
    standard = torch.where(varies, centred / deviation, 0)
    return standard, torch.where(varies, deviation * size, 0)


MASKS: dict[str, Mask] = {
    "variance": variance_mask,
    "deviation": deviation_mask,
    "reference": reference_mask,
    "uniform": uniform_mask,
}
"""Every mask form by its name; `uniform` is a control, not a method."""
