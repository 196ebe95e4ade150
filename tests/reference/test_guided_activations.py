"""Every activation of the table: its value, its guided gradient, and the derivative of that."""

import pytest
import torch
from slopes import guided_by_formulas
from tiny import pictures
from torch import Tensor, nn
from torch.nn import functional

from atcon.attention import guided_backprop, trace
from atcon.attention.activations import KINDS
from atcon.attention.guided import GuidedRule, guided_activation

# ruff: noqa: PLW0108  a function is looked up when it is called, so that it can be replaced
aten = torch.ops.aten
SLOPES = torch.tensor([0.2, 0.4, -0.1], dtype=torch.float64)
CALLS = {
    "relu": lambda x: functional.relu(x),
    "relu, in place": lambda x: functional.relu(x, inplace=True),
    "relu, method": Tensor.relu,
    "relu, operator": aten.relu,
    "relu6": lambda x: functional.relu6(x),
    "hardtanh": lambda x: functional.hardtanh(x, 0.0, 0.7),
    "hardtanh, in place": lambda x: functional.hardtanh_(x, 0.0, 0.7),
    "leaky_relu": lambda x: functional.leaky_relu(x),
    "leaky_relu, in place": lambda x: functional.leaky_relu(x, 0.2, inplace=True),
    "leaky_relu, written": lambda x: functional.leaky_relu_(x, negative_slope=0.3),
    "leaky_relu, falling": lambda x: functional.leaky_relu(x, -0.3),
    "leaky_relu, operator": lambda x: aten.leaky_relu.default(x, 0.1),
    "rrelu": lambda x: functional.rrelu(x, 0.1, 0.3),
    "rrelu, in place": nn.RReLU(0.1, 0.3, inplace=True).eval(),
    "prelu": lambda x: functional.prelu(x, SLOPES),
    "prelu, shared": lambda x: functional.prelu(x, SLOPES[:1]),
    "prelu, method": lambda x: x.prelu(weight=SLOPES),
    "elu": lambda x: functional.elu(x, 0.8),
    "elu, in place": lambda x: functional.elu(x, 0.8, inplace=True),
    "elu, written": lambda x: functional.elu_(x),
    "elu, operator": lambda x: aten.elu.default(x, 0.8, 1.1, 0.9),
    "celu": lambda x: functional.celu(x, alpha=0.5),
    "celu, in place": lambda x: torch.celu_(x, 0.5),
    "selu": lambda x: functional.selu(input=x),
    "selu, in place": lambda x: functional.selu(x, inplace=True),
    "silu": lambda x: functional.silu(x),
    "silu, in place": lambda x: functional.silu(x, inplace=True),
    "silu, operator": aten.silu_.default,
    "mish": lambda x: functional.mish(x),
    "mish, in place": lambda x: functional.mish(x, inplace=True),
    "hardswish": lambda x: functional.hardswish(x),
    "hardswish, in place": lambda x: functional.hardswish(x, inplace=True),
    "gelu": lambda x: functional.gelu(x),
    "gelu, tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu, operator": lambda x: aten.gelu.default(x, approximate="tanh"),
    "softplus": lambda x: functional.softplus(x),
    "softplus, sharp": lambda x: functional.softplus(x, 2, threshold=1),
}
CALL = pytest.mark.parametrize("name", CALLS)


class Net(nn.Module):
    """Linear maps around an activation, twice; `call` may write to its argument."""

    def __init__(self, call):
        super().__init__()
        self.first, self.second = nn.Linear(48, 24), nn.Linear(24, 12)
        self.call, self.head = call, nn.Linear(12, 4)

    def forward(self, x):
        x = self.call(2 * self.first(x.flatten(1)).reshape(-1, 3, 2, 4))
        return self.head(self.call(self.second(x.flatten(1)).reshape(-1, 3, 2, 2)).flatten(1))


def net(name, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(CALLS[name]).double()


def test_every_activation_of_the_table_is_called_here():
    assert {name.split(",")[0] for name in CALLS} == set(KINDS)


def numbers():
    return torch.linspace(-7, 7, 210, dtype=torch.float64).reshape(1, 3, 70).requires_grad_()


def run(name, x, rule=None):
    """Call the activation on a copy of x, by torch or obeying a rule."""
    held = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            found = guided_activation(rule, func, args, kwargs or {})
            return func(*args, **(kwargs or {})) if found is None else found

    held.append(x * 1)
    if rule is None:
        return CALLS[name](held[0]), held[0]
    with Mode():
        return CALLS[name](held[0]), held[0]


@CALL
def test_the_value_and_what_it_overwrites_are_those_of_torch(name):
    x, rule = numbers(), GuidedRule()
    expected, written = run(name, x)
    found, ours = run(name, x, rule)
    assert rule.by_kind == {name.split(",")[0]: 1}
    assert torch.equal(found, expected)
    assert torch.equal(ours, written)
    assert (found is ours) == (expected is written)


@CALL
def test_without_a_map_every_gradient_is_that_of_torch(name):
    gradients = []
    for rule in (None, GuidedRule()):
        slopes = SLOPES.requires_grad_()
        result, _ = run(name, x := numbers(), rule)
        weights = torch.linspace(-1, 2, 210, dtype=torch.float64).reshape(1, 3, 70)
        gradients.append(
            torch.autograd.grad((weights * result).sum(), [x, slopes], materialize_grads=True)
        )
        SLOPES.requires_grad_(requires_grad=False)
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=1e-14)
    assert gradients[0][1].any() == name.startswith("prelu")


@CALL
def test_the_guided_gradient_is_the_slope_times_the_positive_part(name):
    rule = GuidedRule()
    plain, _ = run(name, x := numbers())
    result, _ = run(name, y := numbers(), rule)
    grad = torch.linspace(3, -4, 210, dtype=torch.float64).reshape(1, 3, 70)
    (expected,) = torch.autograd.grad(plain, x, grad.clamp(min=0))
    with rule.taking_a_map(guided=True):
        (found,) = torch.autograd.grad(result, y, grad)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


PATCHED = [
    name
    for name in CALLS
    if not name.startswith("hardtanh, ")
    and name.split(", ")[-1] not in ("method", "operator", "written")
    and name not in ("celu, in place", "selu")
]
"""What calls a function of `torch.nn.functional`, which the formulas can replace."""


@pytest.mark.parametrize("name", PATCHED)
def test_equals_the_formulas_of_a_network(name, monkeypatch):
    model, images, classes = net(name), pictures(2, size=4), torch.tensor([0, 3])
    theirs, calls = guided_by_formulas(monkeypatch, model, images, classes)
    assert calls.total() == 2
    torch.testing.assert_close(guided_backprop(model, images, classes), theirs)


@CALL
@pytest.mark.parametrize("guided", [True, False], ids=["guided", "plain"])
def test_the_gradient_is_differentiable_once_more(name, guided):
    model, images = net(name), pictures(2, size=4)
    parameters = list(model.parameters())
    if name == "prelu":
        parameters.append(nn.Parameter(SLOPES.clone()))
        model.call = lambda x: functional.prelu(x, parameters[-1])
    weights = pictures(2, size=4, seed=5)

    def measured(create_graph):
        traced = trace(model, images)
        (gradient,) = traced.gradients(
            torch.tensor([1, 2]), [traced.images], create_graph=create_graph, guided=guided
        )
        return (weights * gradient).sum() + 0.3 * (weights * gradient).pow(2).sum()

    gradients = torch.autograd.grad(measured(True), parameters, materialize_grads=True)
    scale = max(float(gradient.abs().max()) for gradient in gradients)
    assert scale > 1e-3
    make = torch.Generator().manual_seed(2)
    for _ in range(2):
        along = [torch.randn(p.shape, dtype=p.dtype, generator=make) for p in parameters]
        ends = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                torch._foreach_add_(parameters, along, alpha=step)
            ends.append(float(measured(False)))
        with torch.no_grad():
            torch._foreach_add_(parameters, along, alpha=1e-6)
        found = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
        expected = (ends[0] - ends[1]) / 2e-6
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7 * scale)


@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("prelu")])
def test_half_precision_keeps_its_type(name):
    x, rule = numbers().detach().bfloat16().requires_grad_(), GuidedRule()
    result, _ = run(name, x, rule)
    with rule.taking_a_map(guided=True):
        (gradient,) = torch.autograd.grad(result.float().sum(), x)
    assert result.dtype == gradient.dtype == torch.bfloat16


def test_prelu_under_autocast_computes_as_torch_does():
    x, slopes = torch.randn(2, 3, 5, requires_grad=True), torch.rand(3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = functional.prelu(x, slopes)
        found = guided_activation(GuidedRule(), torch.prelu, (x, slopes), {})
    assert torch.equal(found, expected)
    ours, theirs = (torch.autograd.grad(y.float().sum(), [x, slopes]) for y in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_map_keeps_no_more_than_torch_does():
    """The double backward keeps the input and one gradient for each activation."""
    for call in (functional.silu, functional.gelu, functional.mish, functional.hardswish):
        kept = []
        x = torch.randn(1, 3, 50, requires_grad=True)
        rule = GuidedRule()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t) or t, lambda t: t
        ):
            y = guided_activation(rule, call, (x,), {})
            with rule.taking_a_map(guided=True):
                torch.autograd.grad(
                    y, x, torch.randn(1, 3, 50, requires_grad=True), create_graph=True
                )
        assert len({t.untyped_storage().data_ptr() for t in kept}) == 2


def test_hardtanh_around_zero_and_random_slopes_are_left_alone():
    rule = GuidedRule()
    x = torch.randn(1, 3, 4, 4)
    assert guided_activation(rule, functional.hardtanh, (x,), {}) is None
    assert guided_activation(rule, functional.rrelu, (x,), {"training": True}) is None
    assert rule.guided == 0
    assert rule.unguided == {"hardtanh": 1, "rrelu": 1}


def test_a_relu6_whose_result_is_written_to_differentiates_as_in_torch():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            y = functional.relu6(4 * self.conv(x))
            y += 1
            return self.fc(y.mean(dim=(2, 3)))

    model, images = Written().double(), pictures()
    found = torch.autograd.grad(trace(model, images).logits[:, 0].sum(), model.conv.weight)
    expected = torch.autograd.grad(model(images)[:, 0].sum(), model.conv.weight)
    torch.testing.assert_close(found, expected)
    assert guided_backprop(model, images, 0).any()
