"""Convolutions whose derivatives are ordinary convolution kernels, to second order.

PyTorch's double backward of a convolution goes through transposed and dilated convolutions, and of
a depthwise one loops over the channels. Written as below, every derivative that the consistency
loss needs is one forward, input-gradient or weight-gradient kernel, and none is taken that nobody
asked for.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from atcon.attention.borrow import autocast_type
from atcon.attention.guided import GuidedRule

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_backward = torch.ops.aten.convolution_backward


class Convolution(NamedTuple):
    """The arguments of a batched convolution that pads by numbers."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: tuple[Any, ...]

    @classmethod
    def called_with(
        cls,
        input: Tensor,  # noqa: A002  PyTorch's name
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> "Convolution | None":
        """Read the arguments of `torch.conv1d`, `conv2d`, `conv3d`; None: another kind."""
        if isinstance(padding, str) or input.ndim != weight.ndim:
            return None
        axes = weight.ndim - 2
        lists = [_per_axis(value, axes) for value in (stride, padding, dilation)]
        return cls(input, weight, bias, (*lists, False, [0] * axes, groups))

    def run(self, rule: GuidedRule, *, needs_input: bool) -> Tensor:
        """Convolve; `needs_input` says whether anyone but a map needs the input's gradient."""
        x, weight, bias = _autocast(self.x, self.weight, self.bias)
        output: Tensor = _Convolution.apply(x, weight, bias, self.geometry, rule, needs_input)
        return output


class _InputGradient(torch.autograd.Function):
    """The gradient of a convolution at its input: linear in `grad` and in `weight`."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, weight: Tensor, x: Tensor, geometry: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.geometry = geometry
        gradient: Tensor = _backward(grad, x, weight, None, *geometry, (True, False, False))[0]
        return gradient

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad, weight = ctx.saved_tensors
        (second,) = seconds
        by_grad = by_weight = None
        if ctx.needs_input_grad[0]:
            by_grad = torch.ops.aten.convolution(second, weight, None, *ctx.geometry)
        if ctx.needs_input_grad[1]:
            by_weight = _backward(grad, second, weight, None, *ctx.geometry, (False, True, False))[
                1
            ]
        return by_grad, by_weight, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple[Any, ...],
        rule: GuidedRule,
        needs_input: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_size = None if bias is None else list(bias.shape)
        ctx.geometry, ctx.rule, ctx.needs_input = geometry, rule, needs_input
        output: Tensor = torch.ops.aten.convolution(x, weight, bias, *geometry)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        mapping = ctx.rule.mapping
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wants_input &= mapping or ctx.needs_input
        wanted = [wants_input, wants_weight and not mapping, wants_bias and not mapping]
        by_input = None
        if wants_input and torch.is_grad_enabled():  # it will be differentiated again
            by_input, wanted[0] = _InputGradient.apply(grad, weight, x, ctx.geometry), False
        if not any(wanted):
            return by_input, None, None, None, None, None
        found = _backward(grad, x, weight, ctx.bias_size, *ctx.geometry, wanted)
        return by_input if by_input is not None else found[0], *found[1:], None, None, None


def _autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast as autocast casts for a convolution: a custom function is out of its sight."""
    dtype = autocast_type(x)
    if dtype is None:
        return x, weight, bias
    return x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype)


def _per_axis(value: int | tuple[int, ...], axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values
