"""Gradients against the change of a value along random directions through all tensors at once."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def slopes(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor],
    value: Callable[[], Tensor],
    *,
    count: int = 3,
    step: float = 1e-6,
) -> Iterator[tuple[float, float]]:
    """Give, for each direction, the slope by the gradients and by a central difference.

    Args:
        tensors: Are moved by `step` along a direction of length one in each, and put back.
        gradients: Of `value`, one for each tensor.
        value: Computed anew at both ends; needs no graph.
        count: How many directions.
        step: How far; a value of order one in float64 is right to about 1e-10 of it.
    """
    make = torch.Generator().manual_seed(1)
    for _ in range(count):
        drawn = [torch.randn(x.shape, generator=make, dtype=x.dtype) for x in tensors]
        along = [direction / direction.norm() for direction in drawn]
        ends = []
        for sign in (1, -1):
            _move(tensors, along, sign * step)
            ends.append(float(value()))
            _move(tensors, along, -sign * step)
        by_gradients = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
        yield by_gradients, (ends[0] - ends[1]) / (2 * step)


def _move(tensors: Sequence[Tensor], along: Sequence[Tensor], distance: float) -> None:
    with torch.no_grad():
        for tensor, direction in zip(tensors, along, strict=True):
            tensor.add_(direction, alpha=distance)
