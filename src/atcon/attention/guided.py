"""The guided rule (Springenberg et al., 2015): a rule of the backward pass, for every ReLU.

A `TorchFunctionMode` sees functional, in-place, shared and module activations alike, and an
`autograd.Function` carries the rule, so that nothing is swapped or hooked and the second-order
gradient stays exact. One forward pass serves plain and guided gradients: the rule is switched on
only while the guided gradient is computed.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class GuidedRule:
    """The switch that one forward pass shares between its operations.

    Attributes:
        active: Whether a backward pass through the activations is guided at this moment.
        mapping: Whether a map is taken at this moment: weights and untracked images then need no
            gradient of their own.
        guided: How many activations of the forward pass obey the rule.
    """

    def __init__(self) -> None:
        self.active = False
        self.mapping = False
        self.guided = 0

    @contextmanager
    def taking_a_map(self, *, guided: bool = False) -> Iterator[None]:
        """Take gradients for a map inside the block, guided or plain."""
        self.mapping, self.active = True, guided
        try:
            yield
        finally:
            self.mapping = self.active = False


class _GuidedGradient(torch.autograd.Function):
    """max(grad, 0) where the activation is open (Eq. 5); linear in `grad` where it passes."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, result: Tensor, upper: float) -> Tensor:
        passed = _open_gradient(grad.clamp(min=0), result, upper)
        ctx.save_for_backward(passed)
        return passed

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Tensor, None, None]:
        (passed,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(seconds[0], passed, 0), None, None


class _ClippedReLU(torch.autograd.Function):
    """min(max(x, 0), upper); its result, which the next layer keeps anyway, says where it is open."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, upper: float, inplace: bool, rule: GuidedRule) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        result = x.clamp_(0, upper) if inplace else x.clamp(0, upper)
        ctx.save_for_backward(result)
        ctx.upper, ctx.rule = upper, rule
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (result,) = ctx.saved_tensors
        take = _GuidedGradient.apply if ctx.rule.active else _open_gradient
        return take(grads[0], result, ctx.upper), None, None, None


def _open_gradient(grad: Tensor, result: Tensor, upper: float) -> Tensor:
    """Pass `grad` where 0 < result < upper."""
    if upper == math.inf:
        passed: Tensor = torch.ops.aten.threshold_backward(grad, result, 0)
    else:
        passed = torch.ops.aten.hardtanh_backward(grad, result, 0, upper)
    return passed


def _relu(x: Tensor, inplace: bool = False) -> tuple[Tensor, float, bool]:
    return x, math.inf, inplace


def _relu_(x: Tensor) -> tuple[Tensor, float, bool]:
    return x, math.inf, True


def _relu6(x: Tensor, inplace: bool = False) -> tuple[Tensor, float, bool]:
    return x, 6.0, inplace


def _hardtanh(
    x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> tuple[Tensor, float, bool] | None:
    return (x, float(max_val), inplace) if min_val == 0 else None


def _hardtanh_(
    x: Tensor, min_val: float = -1.0, max_val: float = 1.0
) -> tuple[Tensor, float, bool] | None:
    return _hardtanh(x, min_val, max_val, inplace=True)


_ACTIVATIONS: dict[Any, Callable[..., tuple[Tensor, float, bool] | None]] = {
    functional.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: _relu_,
    Tensor.relu_: _relu_,
    functional.relu6: _relu6,
    functional.hardtanh: _hardtanh,
    functional.hardtanh_: _hardtanh_,
}
"""Every way to call a ReLU, mapped to (input, upper bound, in-place); None: not a ReLU."""


def guided_activation(
    rule: GuidedRule, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Call a ReLU so that it obeys `rule`; its value is unchanged. None: not a ReLU."""
    activation = _ACTIVATIONS.get(function)
    if activation is None:
        return None
    named = {("x" if key == "input" else key): value for key, value in kwargs.items()}
    relu = activation(*args, **named)
    if relu is None:
        return None
    rule.guided += 1
    x, upper, inplace = relu
    result: Tensor = _ClippedReLU.apply(x, upper, inplace, rule)
    return result
