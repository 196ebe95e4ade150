"""The gradients of every attention map, held to finite differences."""

import pytest
import torch
from finite_differences import slopes
from maps import DIFFERENTIABLE, take
from tiny import Head, network, pictures
from torch import nn

GRADIENT_BASED = pytest.mark.parametrize("name", DIFFERENTIABLE)


def smooth():
    """A network without kinks, whose gradients vary everywhere."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.Softplus(),
        Head(5),
    ).double()


def functional_of(name, model, images, **options):
    """A map as one number, in which no position can hide behind another."""
    maps = take(name, model, images, torch.tensor([1, 2]), **options)
    weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0), dtype=maps.dtype)
    return (weights * maps).sum()


def assert_matches_finite_differences(changes, value, gradients):
    scale = max(1.0, *(float(gradient.norm()) for gradient in gradients))
    for found, expected in slopes(changes, gradients, value):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6 * scale)


@GRADIENT_BASED
@pytest.mark.parametrize("built", ["smooth", "inplace", "residual"])
def test_gradient_of_the_weights_matches_finite_differences(name, built):
    model, images = smooth().eval() if built == "smooth" else network(built), pictures()
    parameters = list(model.parameters())
    value = functional_of(name, model, images, create_graph=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    assert sum(bool(gradient.any()) for gradient in gradients) > 1
    assert_matches_finite_differences(
        parameters, lambda: functional_of(name, model, images), gradients
    )


@GRADIENT_BASED
def test_gradient_of_images_that_have_a_graph_matches_finite_differences(name):
    model = smooth().eval()
    source = pictures().requires_grad_()
    value = functional_of(name, model, 2 * source, create_graph=True)
    expected = functional_of(name, model, 2 * source.detach())
    torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-14)
    gradients = torch.autograd.grad(value, [source], allow_unused=True, materialize_grads=True)
    assert gradients[0].any()
    assert_matches_finite_differences(
        [source], lambda: functional_of(name, model, 2 * source.detach()), gradients
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grad_cam", {"pool": "frame"}),
        ("grad_cam", {"relu": True}),
        ("layer_cam", {"relu": True}),
        ("hires_cam", {"relu": True}),
        ("cam", {"relu": True}),
        ("integrated_gradients", {"baseline": 0.3}),
        ("smooth_grad", {"noise": 0.5}),
    ],
)
def test_gradients_of_maps_of_clips_match_finite_differences_for_every_option(name, options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.SiLU(), nn.Conv3d(3, 4, 2), nn.ELU(), Head(4))
    model, clips = model.double(), torch.randn(2, 2, 5, 6, 7).double()
    parameters = list(model.parameters())
    value = functional_of(name, model, clips, create_graph=True, **options)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    assert_matches_finite_differences(
        parameters, lambda: functional_of(name, model, clips, **options), gradients
    )
