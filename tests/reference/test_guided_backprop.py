import math

import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop
from tiny import network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import count_guided, guided_backprop

ACTIVATIONS = {"resnet18": 17, "inception_v3": 94, "googlenet": 57, "densenet121": 121}


def build(name):
    extra = {"aux_logits": False} if name in {"inception_v3", "googlenet"} else {}
    if extra:
        extra["init_weights"] = False
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(num_classes=5, **extra).eval()


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_equals_captum_where_every_relu_is_a_module(name):
    model = build(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([1, 4])
    ours = guided_backprop(model, images, classes)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # captum's hooks cannot bear in-place activations
    theirs = GuidedBackprop(model).attribute(images.requires_grad_(), classes)
    theirs = theirs.detach().abs().sum(dim=1)
    torch.testing.assert_close(ours / theirs.max(), theirs / theirs.max(), rtol=0, atol=1e-5)


class Guided(torch.autograd.Function):
    """Eq. 5, written down a second time."""

    @staticmethod
    def forward(ctx, x, cap):
        ctx.save_for_backward(x)
        ctx.cap = cap
        return x.clamp(min=0, max=cap)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        passes = (x > 0).to(grad) * (x < ctx.cap).to(grad) * (grad > 0).to(grad)
        return grad * passes, None


def guided_by_substitution(monkeypatch, model, images, classes):
    calls = []

    def substitute(x, cap):
        calls.append(cap)
        return Guided.apply(x, cap)

    with monkeypatch.context() as patch:
        patch.setattr(functional, "relu", lambda x, inplace=False: substitute(x, math.inf))
        patch.setattr(functional, "relu6", lambda x, inplace=False: substitute(x, 6.0))
        patch.setattr(functional, "hardtanh", lambda x, _low, cap, _inplace: substitute(x, cap))
        images = images.clone().requires_grad_()
        score = model(images).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, images)
    return gradient.abs().sum(dim=1), len(calls)


@pytest.mark.parametrize(
    ("name", "size"),
    [("inception_v3", 75), ("googlenet", 64), ("densenet121", 64), ("mobilenet_v2", 64)],
)
def test_equals_a_substitution_of_every_activation(name, size, monkeypatch):
    model = build(name).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # keep the signal alive through random weights
            module.running_var.fill_(0.3)
    images = torch.randn(1, 3, size, size, dtype=torch.float64)
    classes = torch.tensor([2])
    theirs, calls = guided_by_substitution(monkeypatch, model, images, classes)
    ours = guided_backprop(model, images, classes)
    assert calls == count_guided(model, images) == ACTIVATIONS.get(name, 35)
    assert theirs.max() > 0
    torch.testing.assert_close(ours / theirs.max(), theirs / theirs.max(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["plain", "grouped", "relu6", "inplace", "residual"])
def test_equals_a_substitution_on_tiny_networks(name, monkeypatch):
    model, images, classes = network(name), pictures(3), torch.tensor([0, 3, 1])
    theirs, _ = guided_by_substitution(monkeypatch, model, images, classes)
    assert theirs.max() > 0
    torch.testing.assert_close(guided_backprop(model, images, classes), theirs)


def test_reaches_every_activation_of_resnet18():
    assert count_guided(build("resnet18"), torch.zeros(1, 3, 32, 32)) == ACTIVATIONS["resnet18"]


def test_differs_from_the_plain_gradient():
    model, images = network("functional"), pictures(1).requires_grad_()
    (plain,) = torch.autograd.grad(model(images).max(), images)
    guided = guided_backprop(model, images)
    assert (guided - plain.abs().sum(dim=1)).abs().max() > 0.1 * guided.max()
