"""What PyTorch does not differentiate twice is differentiated here, or refused."""

import copy

import pytest
import torch
from tiny import pictures
from torch import nn
from torch.nn import functional

from atcon import ConsistencyLoss, InputError
from atcon.attention import trace
from atcon.attention.second_order import TWICE


def gate(x, inplace=False):
    return TWICE[functional.hardsigmoid](x.clone(), inplace)


@pytest.mark.parametrize("inplace", [False, True])
def test_hard_sigmoid_has_the_value_and_the_gradient_of_torch(inplace):
    x = torch.linspace(-5, 5, 41, dtype=torch.float64).requires_grad_()
    expected = functional.hardsigmoid(x)
    assert torch.equal(gate(x, inplace), expected)
    (found,) = torch.autograd.grad(gate(x, inplace).sin().sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sin().sum(), x)[0])


def test_hard_sigmoid_is_differentiable_twice():
    x = torch.tensor([-3.5, -1.2, 0.3, 2.9, 3.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: gate(x).sin(), x)


class Gated(nn.Module):
    """Squeeze and excite as MobileNetV3 has it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.squeeze = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.last, self.fc = nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        x = functional.hardswish(self.conv(x))
        x = x * functional.hardsigmoid(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return self.fc(self.last(x).relu().mean(dim=(2, 3)))


def test_the_loss_through_the_mask_reaches_a_gated_network():
    model, images = Gated(), pictures()
    consistency = ConsistencyLoss(model, layer="last", mask="deviation", detach_mask=False)
    weight = model.squeeze.weight
    (found,) = torch.autograd.grad(consistency(images), weight)
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator())
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        moved.squeeze.weight.data.add_(direction, alpha=sign * 1e-6)
        other = ConsistencyLoss(moved, layer="last", mask="deviation", detach_mask=False)
        ends.append(float(other(images).detach()))
    assert float((found * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_part_that_differentiates_once_is_never_skipped_silently(micro_batch):
    class Net(Gated):
        def forward(self, x):
            return super().forward(Once.apply(x))

    consistency = ConsistencyLoss(Net(), layer="last", detach_mask=False, micro_batch=micro_batch)
    with pytest.raises((InputError, RuntimeError), match="once_differentiable"):
        consistency(pictures()).backward()


def test_a_pass_uses_the_twice_differentiable_forms():
    names, run = set(), trace(Gated(), pictures())
    left = [run.logits.grad_fn]
    while left:
        node = left.pop()
        if node is not None:
            names.add(node.name())
            left.extend(following for following, _ in node.next_functions)
    assert "_HardSigmoidBackward" in names
