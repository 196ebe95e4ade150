import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop
from slopes import guided_by_formulas
from tiny import network, pictures
from torch import nn

from atcon.attention import count_guided, guided_backprop


def build(name):
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(num_classes=5).eval()


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


@pytest.mark.parametrize("name", ["plain", "grouped", "relu6", "inplace", "residual"])
def test_equals_explicit_formulas_on_tiny_networks(name, monkeypatch):
    model, images, classes = network(name), pictures(3), torch.tensor([0, 3, 1])
    theirs, _ = guided_by_formulas(monkeypatch, model, images, classes)
    assert theirs.max() > 0
    torch.testing.assert_close(guided_backprop(model, images, classes), theirs)


def test_reaches_every_activation_of_resnet18():
    assert count_guided(build("resnet18"), torch.zeros(1, 3, 32, 32)) == 17


def test_differs_from_the_plain_gradient():
    model, images = network("functional"), pictures(1).requires_grad_()
    (plain,) = torch.autograd.grad(model(images).max(), images)
    guided = guided_backprop(model, images)
    assert (guided - plain.abs().sum(dim=1)).abs().max() > 0.1 * guided.max()
