"""What PyTorch does not differentiate twice, and what refuses to be."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atcon.errors import InputError


class _HardSigmoid(torch.autograd.Function):
    """min(max(x / 6 + 1 / 2, 0), 1), the gate of MobileNetV3."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        ctx.save_for_backward((x > -3) & (x < 3))
        if inplace:
            ctx.mark_dirty(x)
        result: Tensor = torch._C._nn.hardsigmoid_(x) if inplace else torch._C._nn.hardsigmoid(x)  # noqa: SLF001  what functional.hardsigmoid calls
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rises,) = ctx.saved_tensors
        return torch.where(rises, grads[0] / 6, 0), None


def _hard_sigmoid(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002  PyTorch's name
    result: Tensor = _HardSigmoid.apply(input, inplace)
    return result


TWICE = {functional.hardsigmoid: _hard_sigmoid}
"""Functions whose gradient PyTorch cannot differentiate, and what takes their place in a pass."""


def refuse_cut_graph(value: Tensor) -> None:
    """Refuse a graph with a part that is marked `once_differentiable`.

    `backward()` raises there; asked for some gradients only, autograd skips the part and gives
    gradients without its share.

    Raises:
        InputError: The graph holds such a part.
    """
    if any(node.name().endswith("autograd::Error") for node in nodes_of(value)):
        raise InputError(
            "a part of the network is marked as once_differentiable, but the loss needs its "
            "second derivative: replace it by operations of PyTorch"
        )


def nodes_of(value: Tensor) -> Iterator[Any]:
    """Walk the graph that autograd recorded for a tensor; every node comes once."""
    seen: set[Any] = set()
    left: list[Any] = [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        left.extend(following for following, _ in node.next_functions)
