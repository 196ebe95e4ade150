import pytest
import torch

from atcon.attention.convolution import Convolution
from atcon.attention.guided import GuidedRule

CASES = {
    "plain": (2, {"padding": 1}, 3, 4, True),
    "plain, stride": (2, {"stride": 2, "padding": (0, 1)}, 3, 4, False),
    "plain clips": (3, {"padding": 1, "stride": (1, 2, 2)}, 2, 3, True),
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
    weight = draw(outputs, inputs // options.get("groups", 1), *(3,) * axes)
    return CONVOLUTIONS[axes], options, [x, weight, *([draw(outputs)] if has_bias else [])]


def ours(tensors, options):
    return Convolution.called_with(*tensors, **options).run(GuidedRule(), needs_input=True)


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


def test_while_a_map_is_taken_only_the_input_has_a_gradient():
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    rule = GuidedRule()
    output = Convolution.called_with(x, weight, groups=4).run(rule, needs_input=False)
    with rule.taking_a_map():
        found = torch.autograd.grad(output.sum(), [x, weight], allow_unused=True, retain_graph=True)
    later = torch.autograd.grad(output.sum(), [x, weight], allow_unused=True)
    expected = torch.autograd.grad(torch.conv2d(x, weight, groups=4).sum(), [x, weight])
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(later[1], expected[1])
    assert found[1] is None, "a map needs no gradient of the weights"
    assert later[0] is None, "nobody but a map needs the gradient of the images"


@pytest.mark.parametrize(
    ("options", "shape"),
    [({"padding": "same"}, (1, 4, 5, 5)), ({}, (4, 5, 5))],
    ids=["padding by name", "no batch"],
)
def test_leaves_to_torch_what_it_does_not_serve(options, shape):
    assert Convolution.called_with(torch.zeros(shape), torch.zeros(4, 4, 3, 3), **options) is None
