"""Gradients chunk by chunk: the loss of a batch with the memory of a part of it.

Samples do not interact, so the gradient of a mean over the batch is the sum of the gradients of its
parts. Each is taken at once and its graph freed; the sum waits in the loss for `backward()`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atcon.attention.second_order import refuse_cut_graph

_SCALES = (2.0**16, 2.0**8, 1.0)
"""Under half precision the first that does not overflow, so that small gradients do not vanish."""


def in_float16(images: Tensor) -> bool:
    """Whether gradients of a pass over these images go through float16."""
    kind = images.device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return autocast or images.dtype == torch.float16


def at_a_time(micro_batch: int | None, images: int) -> int:
    """How many images at a time a loss of so many takes."""
    return min(micro_batch or images, images)


def halved(taken: int, *, interact: bool) -> int | None:
    """Half as many images at a time; None where that is one already, or samples interact."""
    return None if interact or taken < 2 else (taken + 1) // 2


class Gathered:
    """The gradients of a sum of losses, taken one loss at a time.

    Args:
        weights: Whose gradients are gathered; those that a loss does not reach get none.
        half: Whether gradients pass through float16, where they need a scale.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, half: bool) -> None:
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.scales = _SCALES if half else (1.0,)
        self.total: list[Tensor | None] = [None] * len(self.weights)

    def add(self, loss: Tensor) -> None:
        """Take the gradients of one loss and free its graph.

        Raises:
            InputError: A part of the network cannot be differentiated twice.
        """
        if not loss.requires_grad:
            return
        if all(known is None for known in self.total):
            refuse_cut_graph(loss)
        for scale in self.scales:
            last = scale == self.scales[-1]
            gradients = torch.autograd.grad(
                loss * scale if scale != 1 else loss,
                self.weights,
                retain_graph=not last,
                allow_unused=True,
            )
            if last or all(bool(g.isfinite().all()) for g in gradients if g is not None):
                break
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                self._add(index, gradient / scale if scale != 1 else gradient)

    def hand_over(self, value: Tensor) -> Tensor:
        """Give `value` so that its `backward()` brings the gathered gradients to the weights."""
        reached = [
            (weight, gradient)
            for weight, gradient in zip(self.weights, self.total, strict=True)
            if gradient is not None
        ]
        handed: Tensor = _Handed.apply(
            value, [gradient for _, gradient in reached], *(weight for weight, _ in reached)
        )
        return handed

    def _add(self, index: int, gradient: Tensor) -> None:
        before = self.total[index]
        self.total[index] = gradient if before is None else before + gradient


class _Handed(torch.autograd.Function):
    """A value whose gradients at the weights are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *_weights: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(grads[0].to(known.dtype) * known for known in ctx.saved_tensors))
