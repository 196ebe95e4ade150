import pytest
import torch

from atcon.attention.convolution import grouped_convolution
from atcon.attention.guided import GuidedRule

CASES = {
    "two groups": (2, {"groups": 2}, 4, 6, True),
    "depthwise": (2, {"groups": 4, "padding": 1}, 4, 4, False),
    "depthwise, stride": (2, {"groups": 4, "padding": 1, "stride": 2}, 4, 8, True),
    "uneven stride": (2, {"groups": 2, "stride": (2, 3), "padding": (1, 0)}, 4, 4, True),
    "dilation": (2, {"groups": 2, "dilation": 2, "padding": 2}, 4, 4, False),
    "signals": (1, {"groups": 2, "stride": 2}, 4, 4, True),
    "clips": (3, {"groups": 2, "padding": 1, "stride": (1, 2, 2)}, 4, 4, True),
}
CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


@pytest.fixture(params=CASES)
def case(request):
    axes, options, inputs, outputs, has_bias = CASES[request.param]
    make = torch.Generator().manual_seed(0)

    def draw(*shape):
        values = torch.randn(*shape, dtype=torch.float64, generator=make)
        return values.requires_grad_()

    x = draw(2, inputs, *(6, 5, 4)[:axes])
    weight = draw(outputs, inputs // options["groups"], *(3,) * axes)
    return CONVOLUTIONS[axes], options, [x, weight, *([draw(outputs)] if has_bias else [])]


def ours(tensors, options):
    result = grouped_convolution(GuidedRule(), *tensors, **options)
    assert result is not None
    return result


def derivatives(output, tensors):
    """First derivatives of a nonlinear function of the output, and theirs."""
    firsts = torch.autograd.grad(output.pow(3).sum(), tensors, create_graph=True)
    seconds = torch.autograd.grad(sum(first.square().sum() for first in firsts), tensors)
    return [output, *firsts, *seconds]


def test_value_and_two_derivatives_equal_torch(case):
    convolution, options, tensors = case
    expected = derivatives(convolution(*tensors, **options), tensors)
    found = derivatives(ours(tensors, options), tensors)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * float(b.detach().abs().max()))


def test_gradient_of_the_input_gradient_matches_finite_differences(case):
    _, options, tensors = case
    assert torch.autograd.gradcheck(lambda *t: ours(t, options), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: ours(t, options), tensors)


def test_while_the_rule_is_active_only_the_input_has_a_gradient():
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    rule = GuidedRule()
    output = grouped_convolution(rule, x, weight, groups=4)
    with rule.switched_on():
        by_x, by_weight = torch.autograd.grad(output.sum(), [x, weight], allow_unused=True)
    expected = torch.autograd.grad(torch.conv2d(x, weight, groups=4).sum(), x)[0]
    torch.testing.assert_close(by_x, expected)
    assert by_weight is None


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (1, 4, 5, 5)),
        ({"groups": 4, "padding": "same"}, (1, 4, 5, 5)),
        ({"groups": 4}, (4, 5, 5)),
    ],
    ids=["one group", "padding by name", "no batch"],
)
def test_leaves_to_torch_what_it_does_not_serve(options, shape):
    weight = torch.zeros(4, 4 // options.get("groups", 1), 3, 3)
    assert grouped_convolution(GuidedRule(), torch.zeros(shape), weight, **options) is None
