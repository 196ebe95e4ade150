"""The activations that the guided rule reaches: every way to call them, and their derivatives.

One table maps a function, as a `TorchFunctionMode` sees it, to a reader of its arguments. A reader
gives the activation that was meant, or None for a call that the rule leaves alone. Values and
derivatives are torch's own kernels, so nothing but the sign rule differs from the plain network.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_aten = torch.ops.aten
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


class ClippedReLU(NamedTuple):
    """min(max(x, 0), upper)."""

    kind: str
    x: Tensor
    inplace: bool
    upper: float


class PReLU(NamedTuple):
    """A leaky ReLU with a learned slope, of one number or one for each channel."""

    kind: str
    x: Tensor
    weight: Tensor


class Activation(NamedTuple):
    """Any other activation of one tensor.

    Attributes:
        kind: Its name.
        x: The argument.
        inplace: Whether the result replaces the argument.
        value: The activation; it overwrites its argument if `from_result`.
        slope: `(gradient, kept) -> act'(x) * gradient`, where `kept` is x, or act(x) if
            `from_result`; differentiable once more in both.
        from_result: Whether the slope is told from the result, so that x is not kept.
    """

    kind: str
    x: Tensor
    inplace: bool
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    from_result: bool = False


Number = float | int
Reader = Callable[..., ClippedReLU | PReLU | Activation | None]


class _Slope(torch.autograd.Function):
    """act'(x) * grad for activations whose backward kernel torch cannot differentiate."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        x: Tensor,
        slope: Callable[[Tensor, Tensor], Tensor],
        bend: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.slope, ctx.bend = slope, bend
        return slope(grad, x)

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad, x = ctx.saved_tensors
        by_grad = ctx.slope(seconds[0], x) if ctx.needs_input_grad[0] else None
        by_x = ctx.bend(x).mul_(grad).mul_(seconds[0]) if ctx.needs_input_grad[1] else None
        return by_grad, by_x, None, None


def _silu_bend(x: Tensor) -> Tensor:
    """The second derivative of SiLU: s (1 - s) (2 + x (1 - 2 s)), s the logistic of x."""
    s = x.sigmoid()
    return (1 - 2 * s).mul_(x).add_(2).mul_(s).mul_(1 - s)


def _mish_bend(x: Tensor) -> Tensor:
    """The second derivative of Mish: (1 - t^2) s (2 + x (1 - s - 2 s t)), t' = (1 - t^2) s."""
    s, t = x.sigmoid(), functional.softplus(x).tanh()
    return (1 - s - 2 * s * t).mul_(x).add_(2).mul_(s).mul_(1 - t * t)


def _relu(x: Tensor, inplace: bool = False) -> ClippedReLU:
    return ClippedReLU("relu", x, inplace, math.inf)


def _relu6(x: Tensor, inplace: bool = False) -> ClippedReLU:
    return ClippedReLU("relu6", x, inplace, 6.0)


def _hardtanh(
    x: Tensor, min_val: Number = -1.0, max_val: Number = 1.0, inplace: bool = False
) -> ClippedReLU | None:
    kind = "relu6" if max_val == 6 else "hardtanh"  # nn.ReLU6 calls hardtanh
    return ClippedReLU(kind, x, inplace, float(max_val)) if min_val == 0 else None


def _leaky_relu(x: Tensor, negative_slope: Number = 0.01, inplace: bool = False) -> Activation:
    function = _aten.leaky_relu_ if inplace else _aten.leaky_relu
    value = partial(function, negative_slope=negative_slope)
    slope = partial(
        _aten.leaky_relu_backward, negative_slope=negative_slope, self_is_result=inplace
    )
    return Activation("leaky_relu", x, inplace, value, slope, from_result=inplace)


def _rrelu(
    x: Tensor,
    lower: Number = 1 / 8,
    upper: Number = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Activation | None:
    if training:
        return None
    return _leaky_relu(x, (lower + upper) / 2, inplace)._replace(kind="rrelu")


def _prelu(x: Tensor, weight: Tensor) -> PReLU:
    return PReLU("prelu", x, weight)


def _elu_slope(
    grad: Tensor, kept: Tensor, scales: tuple[Number, Number, Number], from_result: bool
) -> Tensor:
    found: Tensor = _aten.elu_backward(grad, *scales, from_result, kept)
    return found


def _scaled_elu(
    x: Tensor,
    alpha: Number = 1.0,
    scale: Number = 1.0,
    input_scale: Number = 1.0,
    inplace: bool = False,
    kind: str = "elu",
) -> Activation:
    scales = (alpha, scale, input_scale)
    function = _aten.elu_ if inplace else _aten.elu
    value = partial(function, alpha=alpha, scale=scale, input_scale=input_scale)
    slope = partial(_elu_slope, scales=scales, from_result=inplace)
    return Activation(kind, x, inplace, value, slope, from_result=inplace)


def _elu(x: Tensor, alpha: Number = 1.0, inplace: bool = False) -> Activation:
    return _scaled_elu(x, alpha, inplace=inplace)


def _celu(x: Tensor, alpha: Number = 1.0, inplace: bool = False) -> Activation:
    return _scaled_elu(x, alpha, 1.0, 1 / alpha, inplace, "celu")


def _selu(x: Tensor, inplace: bool = False) -> Activation:
    return _scaled_elu(x, _SELU_ALPHA, _SELU_SCALE, 1.0, inplace, "selu")


def _silu_slope(grad: Tensor, x: Tensor) -> Tensor:
    found: Tensor = _Slope.apply(grad, x, _aten.silu_backward, _silu_bend)
    return found


def _mish_slope(grad: Tensor, x: Tensor) -> Tensor:
    found: Tensor = _Slope.apply(grad, x, _aten.mish_backward, _mish_bend)
    return found


def _silu(x: Tensor, inplace: bool = False) -> Activation:
    return Activation("silu", x, inplace, _aten.silu, _silu_slope)


def _mish(x: Tensor, inplace: bool = False) -> Activation:
    return Activation("mish", x, inplace, _aten.mish, _mish_slope)


def _hardswish(x: Tensor, inplace: bool = False) -> Activation:
    return Activation("hardswish", x, inplace, _aten.hardswish, _aten.hardswish_backward)


def _gelu(x: Tensor, *, approximate: str = "none", inplace: bool = False) -> Activation:
    value = partial(_aten.gelu, approximate=approximate)
    slope = partial(_aten.gelu_backward, approximate=approximate)
    return Activation("gelu", x, inplace, value, slope)


def _softplus(x: Tensor, beta: Number = 1.0, threshold: Number = 20.0) -> Activation:
    value = partial(_aten.softplus, beta=beta, threshold=threshold)
    slope = partial(_aten.softplus_backward, beta=beta, threshold=threshold)
    return Activation("softplus", x, False, value, slope)


_ROWS: dict[Reader, tuple[list[Any], list[Any]]] = {
    _relu: ([functional.relu, torch.relu, Tensor.relu], [torch.relu_, Tensor.relu_]),
    _relu6: ([functional.relu6], []),
    _hardtanh: ([functional.hardtanh], [functional.hardtanh_]),
    _leaky_relu: ([functional.leaky_relu], [functional.leaky_relu_]),
    _rrelu: ([functional.rrelu, torch.rrelu], [torch.rrelu_]),
    _prelu: ([torch.prelu, Tensor.prelu], []),
    _elu: ([functional.elu], [functional.elu_]),
    _celu: ([functional.celu, torch.celu], [torch.celu_]),
    _selu: ([functional.selu, torch.selu], [torch.selu_]),
    _silu: ([functional.silu], []),
    _mish: ([functional.mish], []),
    _hardswish: ([functional.hardswish], []),
    _gelu: ([functional.gelu], []),
    _softplus: ([functional.softplus], []),
}
"""Readers with the functions and the in-place functions that they read."""

KINDS = tuple(reader.__name__.lstrip("_") for reader in _ROWS)
"""The names of the activations that the rule can reach."""


def _operators() -> dict[Any, Reader]:
    """Give the operators that exported graphs call."""
    readers = dict(zip(KINDS, _ROWS, strict=True))
    readers["elu"] = _scaled_elu
    table: dict[Any, Reader] = {}
    for name, reader in readers.items():
        table[getattr(_aten, name).default] = table[getattr(_aten, name)] = reader
        if hasattr(_aten, f"{name}_"):
            written = getattr(_aten, f"{name}_")
            table[written.default] = table[written] = partial(reader, inplace=True)
    return table


ACTIVATIONS: dict[Any, Reader] = {
    **_operators(),
    **{function: reader for reader, (plain, _) in _ROWS.items() for function in plain},
    **{
        function: partial(reader, inplace=True)
        for reader, (_, written) in _ROWS.items()
        for function in written
    },
}
"""Every way to call an activation, mapped to the reader of its arguments."""

_GATES = {
    torch.softmax, torch.log_softmax, functional.softmax, functional.log_softmax,
    Tensor.softmax, Tensor.log_softmax, functional.scaled_dot_product_attention,
}  # fmt: skip
_SQUASHES = {
    torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, functional.sigmoid,
    torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, functional.tanh,
    torch.erf, Tensor.erf, functional.hardsigmoid, functional.logsigmoid, functional.glu,
    functional.softsign, functional.tanhshrink, functional.hardshrink, functional.softshrink,
    functional.threshold, torch.threshold_,
}  # fmt: skip
_CLAMPS = {
    torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clip, Tensor.clip,
    torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_,
}  # fmt: skip


def activation_called(
    function: Any, args: Any, kwargs: Any
) -> ClippedReLU | PReLU | Activation | None:
    """Read a call of the table. None: not one of it, or one that the rule leaves alone."""
    reader = ACTIVATIONS.get(function)
    if reader is None:
        return None
    named = {("x" if key in ("input", "self") else key): value for key, value in kwargs.items()}
    return reader(*args, **named)


def unguided_kind(function: Any, args: Any, kwargs: Any) -> tuple[str, bool] | None:
    """Name an activation-like call that the rule leaves alone, and say whether it is a gate.

    A gate weighs features instead of making them: a softmax, or a squash of a pooled tensor (one
    position) or of a single channel, as in squeeze-and-excitation and spatial attention.
    """
    clamped = function in _CLAMPS and _lower_bound(args, kwargs) == 0
    gate = function in _GATES
    if not (gate or clamped or function in _SQUASHES or function in ACTIVATIONS):
        return None
    name = function.__name__.strip("_").removesuffix(".default")
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    return name, gate or math.prod(x.shape[2:]) == 1 or x.shape[1] == 1


def _lower_bound(args: Any, kwargs: Any) -> Any:
    bound = kwargs.get("min", args[1] if len(args) > 1 else None)
    return bound if isinstance(bound, int | float) else None
