"""The guided rule written down a second time: explicit formulas, and functions patched by them.

Nothing here touches the library's code: an activation is a value and a slope in closed form, and
the rule is slope(x) * max(g, 0).
"""

import math
from collections import Counter
from contextlib import contextmanager

import torch
from torch.nn import functional

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


def logistic(x):
    return 1 / (1 + torch.exp(-x))


def normal(x):
    """The normal distribution function and its density."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2, torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def clipped(upper=math.inf):
    return lambda x: x.clamp(0, upper), lambda x: ((x > 0) & (x < upper)).to(x)


def leaky(slope):
    return lambda x: torch.where(x > 0, x, slope * x), lambda x: (x > 0) + (x <= 0) * slope


def elu(alpha=1.0, scale=1.0, stretch=1.0):
    def value(x):
        return scale * torch.where(x > 0, x, alpha * (torch.exp(x.clamp(max=0) / stretch) - 1))

    def slope(x):
        return scale * torch.where(x > 0, 1.0, alpha / stretch * torch.exp(x / stretch))

    return value, slope


def silu():
    return lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * (1 - logistic(x)))


def gelu(approximate="none"):
    if approximate == "none":
        return lambda x: x * normal(x)[0], lambda x: normal(x)[0] + x * normal(x)[1]
    c = math.sqrt(2 / math.pi)

    def bent(x):
        return torch.tanh(c * (x + 0.044715 * x**3))

    def slope(x):
        return (1 + bent(x)) / 2 + x / 2 * (1 - bent(x) ** 2) * c * (1 + 3 * 0.044715 * x**2)

    return lambda x: x / 2 * (1 + bent(x)), slope


def hardswish():
    def slope(x):
        return torch.where(x >= 3, 1.0, torch.where(x <= -3, 0.0, x / 3 + 0.5))

    return lambda x: x * (x + 3).clamp(0, 6) / 6, slope


def mish():
    def bent(x):
        return torch.tanh(torch.log1p(torch.exp(x)))

    return lambda x: x * bent(x), lambda x: bent(x) + x * logistic(x) * (1 - bent(x) ** 2)


def softplus(beta=1.0, threshold=20.0):
    def value(x):
        return torch.where(beta * x > threshold, x, torch.log1p(torch.exp(beta * x)) / beta)

    return value, lambda x: torch.where(beta * x > threshold, 1.0, logistic(beta * x))


class Rule(torch.autograd.Function):
    """slope(x) * max(g, 0); the derivatives of a map made with it are plain: slope(x) * g."""

    guided = True

    @staticmethod
    def forward(ctx, x, value, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return value(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        passed = torch.where(grad > 0, grad, 0.0) if Rule.guided else grad
        return ctx.slope(x) * passed, None, None


PATCHES = {
    "relu": lambda inplace=False: clipped(),
    "relu6": lambda inplace=False: clipped(6.0),
    "hardtanh": lambda low, high, inplace=False: clipped(high),
    "leaky_relu": lambda slope=0.01, inplace=False: leaky(slope),
    "rrelu": lambda low, high, training=False, inplace=False: leaky((low + high) / 2),
    "prelu": lambda weight: leaky(weight.detach().reshape(-1, 1, 1)),
    "elu": lambda alpha=1.0, inplace=False: elu(alpha),
    "celu": lambda alpha=1.0, inplace=False: elu(alpha, 1.0, alpha),
    "selu": lambda inplace=False: elu(ALPHA, SCALE),
    "silu": lambda inplace=False: silu(),
    "gelu": lambda approximate="none": gelu(approximate),
    "hardswish": lambda inplace=False: hardswish(),
    "mish": lambda inplace=False: mish(),
    "softplus": softplus,
}
"""Functions of `torch.nn.functional`, and the formulas of a call with the same arguments."""


def hard_sigmoid(x, inplace=False):
    """A gate, which the rule leaves alone; PyTorch's own slope is 1 / 6 in float32 only."""
    return (x + 3).clamp(0, 6) / 6


@contextmanager
def formulas(monkeypatch):
    """Replace the activations by their formulas under the guided rule, and count the calls."""
    calls = Counter()

    def substitute(name):
        def call(x, *args, **kwargs):
            calls[name] += 1
            named = {"min_val": "low", "max_val": "high", "negative_slope": "slope",
                     "lower": "low", "upper": "high"}  # fmt: skip
            value, slope = PATCHES[name](
                *args, **{named.get(key, key): value for key, value in kwargs.items()}
            )
            return Rule.apply(x, value, slope)

        return call

    with monkeypatch.context() as patch:
        for name in PATCHES:
            patch.setattr(functional, name, substitute(name))
        patch.setattr(functional, "hardsigmoid", hard_sigmoid)
        yield calls


def guided_by_formulas(monkeypatch, model, images, classes):
    """Give the guided map of functional and module activations, and the calls by name."""
    with formulas(monkeypatch) as calls:
        images = images.clone().requires_grad_()
        score = model(images).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, images)
    return gradient.abs().sum(dim=1), calls
