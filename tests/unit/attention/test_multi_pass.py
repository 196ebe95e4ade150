"""Integrated Gradients and SmoothGrad: their axioms, and what their passes cost."""

import weakref

import pytest
import torch
from tiny import Head, network, pictures
from torch import nn

from atcon.attention import Trace, gradient, gradient_times_input, integrated_gradients, smooth_grad
from atcon.errors import InputError


@pytest.fixture
def smooth():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.SiLU(), Head(6))


def gap(model, images, steps, baseline):
    """How far the sum of each map is from the difference of the logits."""
    maps = integrated_gradients(model, images, 2, steps=steps, baseline=baseline)
    start = torch.zeros_like(images) + baseline
    expected = (model(images) - model(start))[:, 2].detach()
    return (maps.sum(dim=(1, 2)) - expected).abs()


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_integrated_gradients_sum_to_the_difference_of_the_logits(smooth, baseline):
    smooth, images = smooth.double(), pictures()
    coarse, fine = (gap(smooth, images, steps, baseline) for steps in (32, 64))
    assert (fine < 2e-3 * (smooth(images) - smooth(images * 0))[:, 2].abs()).all()
    assert (fine < 0.3 * coarse).all()  # the trapezoid rule's error falls with the square


def test_the_default_steps_of_integrated_gradients_are_complete_to_a_percent():
    model, images = network("plain"), pictures(4)
    maps = integrated_gradients(model, images, 1).sum(dim=(1, 2))
    expected = (model(images) - model(images * 0))[:, 1].detach()
    assert ((maps - expected).abs() < 0.01 * expected.abs().max()).all()


def test_gradient_times_input_sums_to_the_logit_of_a_network_without_biases():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 6, 3, bias=False), nn.ReLU()]
    model, images = nn.Sequential(*layers, Head(6)).double(), pictures()
    model[-1].fc.bias.data.zero_()
    total = gradient_times_input(model, images, 1).sum(dim=(1, 2))
    torch.testing.assert_close(total, model(images)[:, 1].detach())


def test_the_gradient_sums_absolute_values_over_channels(smooth):
    images = pictures(dtype=torch.float32).requires_grad_()
    (expected,) = torch.autograd.grad(smooth(images)[:, 1].sum(), images)
    found = gradient(smooth, images.detach(), 1)
    torch.testing.assert_close(found, expected.abs().sum(dim=1))
    assert not torch.allclose(found, expected.sum(dim=1).abs())


def test_smooth_grad_without_noise_is_the_gradient():
    model, images = network("residual"), pictures()
    expected = gradient(model, images, 1)
    torch.testing.assert_close(smooth_grad(model, images, 1, samples=2, noise=0.0), expected)
    flat = torch.full_like(images, 0.4)
    found = smooth_grad(model, flat, 1, samples=2, noise=0.5)
    torch.testing.assert_close(found, gradient(model, flat, 1))


def test_smooth_grad_scales_its_noise_to_the_range_of_each_image(smooth):
    smooth, images = smooth.double(), pictures()
    scaled = nn.Sequential(Times(0.1), *smooth)
    found = smooth_grad(scaled, 10 * images, 1, samples=3)
    torch.testing.assert_close(found * 10, smooth_grad(smooth, images, 1, samples=3))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_the_noise_does_not_change_the_class_that_is_explained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4), nn.Tanh(), nn.Linear(4, 4))
    model, images = model.double(), pictures(3)
    top, seen = model(images).argmax(dim=1), []
    hook = model.register_forward_hook(lambda _m, _i, logits: seen.append(logits.argmax(dim=1)))
    found = smooth_grad(model, images, samples=3, noise=1.0)
    hook.remove()
    assert any((classes != top).any() for classes in seen)
    assert torch.equal(found, smooth_grad(model, images, top, samples=3, noise=1.0))


@pytest.mark.parametrize(
    ("explained", "options"),
    [(integrated_gradients, {"steps": 4}), (smooth_grad, {"samples": 4})],
    ids=["integrated gradients", "SmoothGrad"],
)
def test_every_pass_is_freed_before_the_next(monkeypatch, explained, options):
    living, again = [], Trace.again

    def counted(self, images):
        assert not any(logits() is not None for logits in living)
        run = again(self, images)
        living.append(weakref.ref(run.logits))
        return run

    monkeypatch.setattr(Trace, "again", counted)
    explained(network("plain"), pictures(), **options)
    assert len(living) == 4
    assert not any(logits() is not None for logits in living)


@pytest.mark.parametrize("steps", [0, -3])
def test_integrated_gradients_need_a_step(steps):
    with pytest.raises(InputError, match=f"steps must be 1 or more, but it is {steps}"):
        integrated_gradients(network("plain"), pictures(), steps=steps)


@pytest.mark.parametrize("shape", [(3,), (3, 5, 5), (1, 3, 12, 12), (3, 3, 12, 12)])
def test_a_baseline_has_the_shape_of_an_image_or_of_the_batch(shape):
    with pytest.raises(InputError, match=r"baseline must be a number, one image \(3, 12, 12\)"):
        integrated_gradients(network("plain"), pictures(2), baseline=torch.zeros(shape))


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"noise": -0.1}])
def test_smooth_grad_needs_samples_and_a_deviation(wrong):
    with pytest.raises(InputError, match="samples must be 1 or more and noise 0 or more"):
        smooth_grad(network("plain"), pictures(), **wrong)
