"""Grouped convolutions whose second derivative does not loop over the groups.

PyTorch's double backward of a depthwise convolution runs one small convolution per channel, which
makes a MobileNet step several times slower. Written as below, every derivative that the
consistency loss needs is one ordinary convolution kernel.
"""

from typing import Any

import torch
from torch import Tensor

from atcon.attention.guided import GuidedRule

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_backward = torch.ops.aten.convolution_backward


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
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, weight = ctx.saved_tensors
        (second,) = seconds
        by_grad = torch.ops.aten.convolution(second, weight, None, *ctx.geometry)
        by_weight = _backward(grad, second, weight, None, *ctx.geometry, (False, True, False))[1]
        return by_grad, by_weight, None, None


class _GroupedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple[Any, ...],
        rule: GuidedRule,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.geometry, ctx.rule = bias is not None, geometry, rule
        output: Tensor = torch.ops.aten.convolution(x, weight, bias, *geometry)
        return output

    @staticmethod
    def backward(
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        by_input = _InputGradient.apply(grad, weight, x, ctx.geometry)
        if ctx.rule.active:  # a map needs the input's gradient only
            return by_input, None, None, None, None
        by_weight = _backward(grad, x, weight, None, *ctx.geometry, (False, True, False))[1]
        by_bias = grad.sum(dim=(0, *range(2, grad.ndim))) if ctx.has_bias else None
        return by_input, by_weight, by_bias, None, None


def grouped_convolution(
    rule: GuidedRule,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolve with the arguments of `torch.conv1d`, `conv2d`, `conv3d`.

    Returns:
        None if the convolution is not grouped, or pads by name: the usual one serves it.
    """
    axes = weight.ndim - 2
    if groups == 1 or isinstance(padding, str) or x.ndim != weight.ndim:
        return None
    x, weight, bias = _autocast(x, weight, bias)
    geometry = (
        _per_axis(stride, axes),
        _per_axis(padding, axes),
        _per_axis(dilation, axes),
        False,
        [0] * axes,
        groups,
    )
    output: Tensor = _GroupedConvolution.apply(x, weight, bias, geometry, rule)
    return output


def _autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast as autocast casts for a convolution: a custom function is out of its sight."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype)


def _per_axis(value: int | tuple[int, ...], axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values
