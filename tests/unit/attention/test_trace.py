import copy

import pytest
import torch
import torchvision
from tiny import NETWORKS, Head, network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import grad_cam, gradient, guided_backprop, occlusion, trace
from atcon.errors import InputError


@pytest.mark.parametrize("built", NETWORKS)
def test_tracing_does_not_change_the_logits(built):
    model, images = network(built), pictures()
    expected = model(images.clone())
    torch.testing.assert_close(trace(model, images).logits, expected, rtol=1e-13, atol=1e-13)


def test_an_in_place_activation_on_the_skip_path_keeps_its_meaning():
    model, images = network("preactivation"), pictures()
    skip = functional.relu(model.stem(images))
    meant = model.head(functional.relu(model.conv(skip) + skip))
    torch.testing.assert_close(trace(model, images, model.stem).logits, meant)


def test_an_in_place_activation_does_not_change_what_is_explained():
    model, images = network("functional"), pictures()
    honest = copy.deepcopy(model)
    honest.forward = lambda x: honest.head(
        functional.relu(honest.norm(honest.last(torch.relu(honest.first(x)))))
    )
    found = grad_cam(model, images, 1, layer="norm")
    assert torch.equal(found, grad_cam(honest, images, 1, layer="norm"))
    assert (trace(model, images, model.norm).features[0] < 0).any()


def test_densenet_features_are_explained_before_they_are_overwritten():
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3).eval()
    images = torch.randn(1, 3, 32, 32)
    run = trace(model, images, model.features)
    assert torch.allclose(run.features[0], model.features(images), atol=1e-6)
    assert (run.features[0] < 0).any()


def test_an_in_place_operation_on_the_input_leaves_the_images_alone():
    model, images = network("edits"), pictures()
    before = images.clone()
    shifted = grad_cam(model, images, 1, layer="net.4")
    assert torch.equal(images, before)
    torch.testing.assert_close(shifted, grad_cam(model.net, images - 0.1, 1, layer="4"))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid(), nn.Hardtanh()])
def test_guided_backpropagation_of_activations_without_the_rule_is_an_input_error(activation):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation, Head(4))
    with pytest.raises(InputError, match="no activation to guide"):
        guided_backprop(model, torch.randn(1, 3, 8, 8))


def test_a_layer_that_does_not_run_is_an_input_error():
    model = network("plain")
    model.unused = nn.Conv2d(3, 3, 1)
    model.forward = nn.Sequential(*list(model)[:-1]).forward
    with pytest.raises(InputError, match="did not run"):
        grad_cam(model, pictures(), layer="unused")


@pytest.mark.parametrize("layer", ["7.fc", "7"])
def test_a_layer_that_gives_no_map_is_an_input_error(layer):
    with pytest.raises(InputError, match="must return a map"):
        grad_cam(network("plain"), pictures(), layer=layer)


def test_logits_may_be_an_attribute_of_the_output():
    class Wrapped(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return torchvision.models.GoogLeNetOutputs(self.net(x), None, None)

    model, images = network("plain"), pictures()
    found = grad_cam(Wrapped(model), images, 1, layer="net.4")
    assert torch.equal(found, grad_cam(model, images, 1, layer="4"))


def test_a_pass_without_gradients_serves_only_maps_that_need_none():
    model, images = network("plain"), pictures()
    run = trace(model, images, gradients=False)
    assert not run.logits.requires_grad
    torch.testing.assert_close(run.logits, model(images).detach())
    classes = torch.tensor([1, 2])
    found = occlusion.map(run, classes, window=4)
    torch.testing.assert_close(found, occlusion(model, images, classes, window=4))
    with pytest.raises(InputError, match="this pass keeps no gradients"):
        gradient.map(run, classes)
