"""How strongly two maps of the same resolution agree: h(A_1, A_2), one value per sample."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.types import Maps

Correlation = Callable[[Tensor, Tensor], Tensor]


def pearson(first: Maps, second: Maps) -> Float[Tensor, " batch"]:
    """Pearson correlation over the positions of each sample's maps (Algorithm 1, line 8).

    A map without contrast, beyond the rounding of its type, has no defined correlation: its value
    is 0 and its gradient is 0, so that one such sample cannot spoil a training step.
    """
    a, a_squared, a_varies = _centred(first)
    b, b_squared, b_varies = _centred(second)
    defined = a_varies & b_varies
    norm = torch.where(defined, a_squared * b_squared, 1).sqrt()
    return torch.where(defined, (a * b).sum(dim=1) / norm, 0)


def _centred(maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
    """Centre and scale each map; give it with its squared norm and whether it has contrast."""
    flat = maps.flatten(1)
    peak = flat.detach().abs().amax(dim=1, keepdim=True)
    kept = peak > torch.finfo(flat.dtype).tiny ** 0.5
    scaled = flat / torch.where(kept, peak, 1)
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    squared = centred.square().sum(dim=1)
    floor = flat.shape[1] * (10 * torch.finfo(flat.dtype).eps) ** 2
    return centred, squared, kept[:, 0] & (squared.detach() > floor)


CORRELATIONS: dict[str, Correlation] = {"pearson": pearson}
"""Every correlation by its name."""
