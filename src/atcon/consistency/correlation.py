"""How strongly two maps of the same resolution agree: h(A_1, A_2), one value per sample."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.consistency.ssim import ssim
from atcon.types import Maps

Correlation = Callable[[Tensor, Tensor], Tensor]


def pearson(first: Maps, second: Maps) -> Float[Tensor, " batch"]:
    """Pearson correlation over the positions of each sample's maps (Algorithm 1, line 8).

    A map without contrast, beyond the rounding of its type, has no defined correlation: its value
    is 0 and its gradient is 0, so that one such sample cannot spoil a training step.
    """
    return _cosine(_centred(first), _centred(second))


def cross_correlation(first: Maps, second: Maps) -> Float[Tensor, " batch"]:
    """Normalised cross-correlation at zero lag: the cosine between the maps, without centring.

    Two maps of one sign agree at least a little, and two constant ones fully. A map of zeros has
    no direction: its value is 0 and its gradient is 0.
    """
    return _cosine(_uncentred(first), _uncentred(second))


_Vectors = tuple[Tensor, Tensor, Tensor]
"""`[batch, position]`, their squared norms, and whether each has a direction."""


def _cosine(first: _Vectors, second: _Vectors) -> Tensor:
    a, a_squared, a_defined = first
    b, b_squared, b_defined = second
    defined = a_defined & b_defined
    norm = torch.where(defined, a_squared * b_squared, 1).sqrt()
    return torch.where(defined, (a * b).sum(dim=1) / norm, 0)


def _centred(maps: Maps) -> _Vectors:
    """Scale and centre each map; it has a direction if it has contrast."""
    scaled, kept = _scaled(maps)
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    squared = centred.square().sum(dim=1)
    floor = scaled.shape[1] * (10 * torch.finfo(scaled.dtype).eps) ** 2
    return centred, squared, kept & (squared.detach() > floor)


def _uncentred(maps: Maps) -> _Vectors:
    """Scale each map; it has a direction unless it is zero."""
    scaled, kept = _scaled(maps)
    return scaled, scaled.square().sum(dim=1), kept


def _scaled(maps: Maps) -> tuple[Tensor, Tensor]:
    """Divide each map by its own size, taken as a constant, and say which are not zero."""
    flat = maps.flatten(1)
    peak = flat.detach().abs().amax(dim=1, keepdim=True)
    kept = peak > torch.finfo(flat.dtype).tiny ** 0.5
    return flat / torch.where(kept, peak, 1), kept[:, 0]


CORRELATIONS: dict[str, Correlation] = {
    "pearson": pearson,
    "cross_correlation": cross_correlation,
    "ssim": ssim,
}
"""Every correlation by its name (the columns of table 4)."""
