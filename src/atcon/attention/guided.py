"""The guided rule (Springenberg et al., 2015): a rule of the backward pass, for every activation.

An activation passes act'(x) * max(g, 0) of a gradient g: its own derivative, applied to the
positive part of what comes in. For a ReLU that is Eq. 5 exactly. Other activations get the same
rule because it is the one reading of Eq. 5 that needs no threshold of its own: what a unit takes in
is evidence for the class only. SiLU, GELU, Mish and Hardswish fall on a part of the negative axis;
there act'(x) < 0 turns the evidence round, as the network itself does.

A `TorchFunctionMode` sees functional, in-place, shared and module activations alike, and an
`autograd.Function` carries the rule, so that nothing is swapped or hooked and the second-order
gradient stays exact. One forward pass serves plain and guided gradients: the rule is switched on
only while the guided gradient is computed.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from atcon.attention.activations import (
    Activation,
    ClippedReLU,
    PReLU,
    activation_called,
    unguided_kind,
)
from atcon.attention.borrow import autocast_type


class GuidedRule:
    """The switch that one forward pass shares between its operations.

    Attributes:
        active: Whether a backward pass through the activations is guided at this moment.
        mapping: Whether a map is taken at this moment: weights and untracked images then need no
            gradient of their own.
        by_kind: How many activations of the forward pass obey the rule, by their name.
        unguided: How many activation-like calls do not.
        gates: How many calls weigh features instead of making them; the rule leaves them alone.
    """

    def __init__(self) -> None:
        self.active = False
        self.mapping = False
        self.by_kind: Counter[str] = Counter()
        self.unguided: Counter[str] = Counter()
        self.gates: Counter[str] = Counter()

    @property
    def guided(self) -> int:
        """How many activations obey the rule."""
        return self.by_kind.total()

    def pass_by(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a call that does not obey the rule, if it is like an activation."""
        kind = unguided_kind(function, args, kwargs)
        if kind is not None:
            name, gate = kind
            (self.gates if gate else self.unguided)[name] += 1

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
    def forward(ctx: Any, grad: Tensor, kept: Tensor, upper: float) -> Tensor:
        passed = _open_gradient(grad, kept, upper).clamp_(min=0)
        ctx.save_for_backward(passed)
        return passed

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Tensor, None, None]:
        (passed,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(seconds[0], passed, 0), None, None


class _ClippedReLU(torch.autograd.Function):
    """min(max(x, 0), upper); its result, which the next layer keeps too, says where it is open.

    Where PyTorch would not keep the result, the network may write to it: then one byte per element.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, upper: float, inplace: bool, rule: GuidedRule) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        result = x.clamp_(0, upper) if inplace else x.clamp(0, upper)
        keeps_result = inplace or upper == math.inf
        ctx.save_for_backward(result if keeps_result else (x > 0) & (x < upper))
        ctx.upper, ctx.rule = upper, rule
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (kept,) = ctx.saved_tensors
        take = _GuidedGradient.apply if ctx.rule.active else _open_gradient
        return take(grads[0], kept, ctx.upper), None, None, None


def _open_gradient(grad: Tensor, kept: Tensor, upper: float) -> Tensor:
    """Pass `grad` where the kept result lies between 0 and `upper`, or where the kept flags say."""
    if kept.dtype == torch.bool:
        return torch.where(kept, grad, 0)
    if upper == math.inf:
        passed: Tensor = torch.ops.aten.threshold_backward(grad, kept, 0)
    else:
        passed = torch.ops.aten.hardtanh_backward(grad, kept, 0, upper)
    return passed


class _Activated(torch.autograd.Function):
    """An activation whose slope is multiplied with max(grad, 0) while the rule is active."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Activation, rule: GuidedRule) -> Tensor:
        if activation.from_result:
            ctx.mark_dirty(x)
        result = activation.value(x)
        ctx.save_for_backward(result if activation.from_result else x)
        ctx.slope, ctx.rule = activation.slope, rule
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        grad = grads[0].relu() if ctx.rule.active else grads[0]
        by_x: Tensor = ctx.slope(grad, kept.to(grad.dtype))  # autocast may widen the result
        return by_x.to(kept.dtype), None, None


class _LearnedSlope(torch.autograd.Function):
    """PReLU; a map needs no gradient of its weight, but is differentiable with respect to it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rule: GuidedRule) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rule = rule
        result: Tensor = torch.ops.aten._prelu_kernel(x, weight)  # noqa: SLF001  prelu reshapes
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].relu() if ctx.rule.active else grads[0]
        by_x, by_weight = torch.ops.aten._prelu_kernel_backward(grad, x, weight)  # noqa: SLF001
        return by_x, None if ctx.rule.mapping else by_weight.sum_to_size(weight.shape), None


def _activate(activation: Activation, rule: GuidedRule) -> Tensor:
    if not activation.inplace or activation.from_result:
        result: Tensor = _Activated.apply(activation.x, activation, rule)
        return result
    return activation.x.copy_(_Activated.apply(activation.x.clone(), activation, rule))


def _activate_with_weight(activation: PReLU, rule: GuidedRule) -> Tensor:
    x, weight = activation.x, activation.weight
    dtype = autocast_type(x)  # torch casts for prelu
    if dtype is not None:
        x, weight = x.to(dtype), weight.to(dtype)
    if x.ndim > 1:
        weight = weight.reshape(1, -1, *(1,) * (x.ndim - 2))
    result: Tensor = _LearnedSlope.apply(x, weight, rule)
    return result


def guided_activation(
    rule: GuidedRule, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Call an activation so that it obeys `rule`; its value is unchanged. None: it is none."""
    activation = activation_called(function, args, kwargs)
    if activation is None:
        rule.pass_by(function, args, kwargs)
        return None
    rule.by_kind[activation.kind] += 1
    if isinstance(activation, ClippedReLU):
        _, x, inplace, upper = activation
        result: Tensor = _ClippedReLU.apply(x, upper, inplace, rule)
        return result
    if isinstance(activation, PReLU):
        return _activate_with_weight(activation, rule)
    return _activate(activation, rule)
