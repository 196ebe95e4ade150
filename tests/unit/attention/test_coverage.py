import warnings
from functools import partial

import pytest
import torch
from tiny import Head, network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import guided_backprop, trace
from atcon.attention.coverage import Coverage, coverage
from atcon.errors import InputError


def scripted(module, *args):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit")
        return torch.jit.trace(module, args) if args else torch.jit.script(module)


def block(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers).double()


def with_head(*layers):
    return nn.Sequential(*layers, Head(4).double())


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * torch.relu(x)


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), Head(4)
        self.function = function

    def forward(self, x):
        return self.head(self.function(self.relu(self.conv(x))))


def test_counts_every_kind():
    found = coverage(network("smooth"), pictures())
    assert found == Coverage(
        by_kind={"silu": 1, "gelu": 1, "prelu": 1, "hardswish": 1, "leaky_relu": 1, "elu": 1},
        unguided={}, gates={}, hidden={}, compiled=(),
    )  # fmt: skip
    assert found.guided == 6


def test_tells_gates_from_unguided_activations():
    def gated(x):
        x = x * functional.adaptive_avg_pool2d(x, 1).sigmoid()  # squeeze and excitation
        x = x * x.mean(dim=1, keepdim=True).sigmoid()  # spatial attention
        x = x * torch.softmax(x.flatten(2), dim=2).reshape(x.shape)
        x = x * torch.sigmoid(1.702 * x)  # the quick GELU
        x = x * (1 + torch.tanh(x)) + torch.clamp(x, min=0) + x.clamp(min=1e-6)
        return functional.hardtanh(x)

    found = coverage(Calls(gated).double(), pictures())
    assert found.by_kind == {"relu": 1}
    assert found.gates == {"sigmoid": 2, "softmax": 1}
    assert found.unguided == {"sigmoid": 1, "tanh": 1, "clamp": 1, "hardtanh": 1}


@pytest.mark.parametrize("inside", [nn.ReLU(), nn.GELU(), nn.Hardswish(inplace=True)])
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "scripted"])
def test_a_scripted_part_is_refused_by_name(inside, traced):
    part = block(inside)
    part = scripted(part, pictures()) if traced else scripted(part)
    model = with_head(part, nn.ReLU())
    assert list(coverage(model, pictures()).hidden) == ["0"]
    with pytest.raises(InputError, match=r"0: scripted by torch\.jit"):
        guided_backprop(model, pictures())


def test_a_scripted_function_is_refused_also_after_it_is_optimised():
    function = scripted(doubled)
    model = Calls(function).double()
    for _ in range(3):
        with pytest.raises(InputError, match="function: a scripted function"):
            guided_backprop(model, pictures())
    model = Calls(partial(lambda f, x: f(x), function)).double()
    for _ in range(3):
        with pytest.raises(InputError, match=r"out of sight|scripted or C\+\+ code"):
            guided_backprop(model, pictures())


def test_a_scripted_part_without_activations_is_welcome():
    model = with_head(scripted(block(nn.AvgPool2d(2))), nn.ReLU())
    assert coverage(model, pictures()).hidden == {}
    assert guided_backprop(model, pictures()).any()


def test_a_part_scripted_later_is_seen():
    model = with_head(block(nn.ReLU()), nn.ReLU())
    guided_backprop(model, pictures())
    model[0] = scripted(model[0])
    with pytest.raises(InputError, match="scripted"):
        guided_backprop(model, pictures())


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_custom_functions_are_reported():
    found = coverage(Calls(Cube.apply).double(), pictures())
    assert found.by_kind == {"relu": 1}
    assert list(found.hidden) == ["Cube"]


def test_without_any_guided_activation_the_error_lists_what_was_seen():
    model = with_head(block(nn.Tanh()), nn.Sigmoid())
    model[1] = nn.Sequential(nn.Sigmoid())
    with pytest.raises(InputError, match=r"seen were tanh \(1\), sigmoid \(1\)"):
        guided_backprop(model, pictures())

    class Own(nn.Module):
        def forward(self, x):
            return Cube.apply(x)

    with pytest.raises(InputError, match="Cube is a custom autograd Function"):
        guided_backprop(with_head(block(Own())), pictures())


def test_compiled_parts_run_eagerly_and_are_named():
    model = with_head(block(nn.ReLU()), nn.ReLU())
    expected = guided_backprop(model, pictures())
    model[0].compile(backend="eager")
    found = coverage(model, pictures())
    assert found.compiled == ("0",)
    assert found.by_kind == {"relu": 2}
    assert found.hidden == {}
    assert torch.equal(guided_backprop(model, pictures()), expected)


def test_the_pass_itself_reports():
    rule = trace(network("smooth"), pictures()).rule
    assert rule.guided == rule.by_kind.total() == 6
