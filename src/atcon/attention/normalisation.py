"""BatchNorm with running statistics: a scale and a shift per channel."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atcon.attention.guided import GuidedRule


@dataclass(frozen=True)
class Norm:
    """A BatchNorm call with running statistics."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    @classmethod
    def called_with(
        cls,
        input: Tensor,  # noqa: A002, ARG003  PyTorch's name; given apart
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,  # noqa: ARG003  it moves nothing without training
        eps: float = 1e-5,
    ) -> "Norm | None":
        """Read the arguments of `functional.batch_norm`; None: it uses the batch's."""
        if training or running_mean is None or running_var is None:
            return None
        return cls(running_mean, running_var, weight, bias, eps)

    def same(self, other: "Norm") -> bool:
        """Whether both are calls of one layer."""
        return (
            self.mean is other.mean
            and self.variance is other.variance
            and self.weight is other.weight
            and self.bias is other.bias
            and self.eps == other.eps
        )

    def affine(self) -> tuple[Tensor, Tensor]:
        """Give the scale and the shift of each channel."""
        scale = (self.variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.mean * scale
        return scale, shift if self.bias is None else shift + self.bias

    def apply(self, x: Tensor, rule: GuidedRule) -> Tensor:
        """Normalise a tensor that no convolution gave."""
        scale, shift = self.affine()
        output: Tensor = _Affine.apply(x, scale, shift, rule)
        return output


class _Affine(torch.autograd.Function):
    """x * scale + shift per channel, of which a map differentiates x only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, rule: GuidedRule) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.rule = rule
        return torch.addcmul(_per_channel(shift, x), x, _per_channel(scale, x)).to(x.dtype)

    @staticmethod
    def backward(
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, scale = ctx.saved_tensors
        (grad,) = grads
        by_scale = by_shift = None
        by_x = (
            (grad * _per_channel(scale, grad)).to(grad.dtype) if ctx.needs_input_grad[0] else None
        )
        axes = (0, *range(2, grad.ndim))
        if not ctx.rule.mapping:
            if ctx.needs_input_grad[1]:
                by_scale = (grad * x).sum(dim=axes, dtype=scale.dtype)
            if ctx.needs_input_grad[2]:
                by_shift = grad.sum(dim=axes, dtype=scale.dtype)
        return by_x, by_scale, by_shift, None


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (x.ndim - 2))
