"""Mirror and predictions against the loss written down again, with its constants held."""

from itertools import product

import pytest
import torch
from finite_differences import slopes
from tiny import network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import grad_cam, guided_backprop
from atcon.consistency import (
    ConsistencyLoss,
    MaskOptions,
    Preset,
)
from atcon.consistency.masks import deviation_mask

CHOICES = [
    {"mirror": mirror, "logit_weight": weight, "multi_label": multi_label}
    for mirror, weight, multi_label in product([False, True], [0.0, 0.6], [False, True])
    if weight or not multi_label
]
EVERY = pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())))
TAUGHT = pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
DRAWN = MaskOptions(strength=(0.3, 1.0), temperature=(0.5, 2.0), noise=0.5, scales=(0.5, 1.0))


def other(name="residual", dtype=torch.float64):
    """A second network: the same layers with other weights."""
    return network(name, seed=5, dtype=dtype)


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)


def kl(target, logits, *, multi_label):
    """From probabilities, in the most direct way."""
    if not multi_label:
        q, p = target.softmax(dim=1), logits.softmax(dim=1)
        return (q * (q / p).log()).sum(dim=1)
    q, p = target.sigmoid(), logits.sigmoid()
    return (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean(dim=1)


def correlation(a, b):
    pairs = torch.stack([a.flatten(1), b.flatten(1)], dim=1)
    return torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])


class Written:
    """The loss with plain functions; class, mask and target are found once and held."""

    def __init__(self, model, teacher, images, *, mirror, logit_weight, multi_label):
        first = teacher or model
        self.model, self.teacher, self.images = model, teacher, images
        self.mirror, self.weight, self.multi_label = mirror, logit_weight, multi_label
        self.target = first(images).detach()
        self.classes = self.target.argmax(dim=1)
        self.mask = deviation_mask(guided_backprop(first, images, self.classes))

    def __call__(self):
        masked = self.mask[:, None] * self.images
        masked = masked.flip(3) if self.mirror else masked
        first = grad_cam(self.teacher or self.model, self.images, self.classes)
        second = grad_cam(self.model, masked, self.classes)
        second = second.flip(2) if self.mirror else second
        apart = kl(self.target, self.model(masked), multi_label=self.multi_label)
        return (-correlation(first, second) + self.weight * apart).mean().detach()


@TAUGHT
@EVERY
def test_value_and_gradient_are_those_of_the_loss_written_down_again(choices, taught):
    model, images = network("residual"), pictures(3)
    teacher = other() if taught else None
    written = Written(model, teacher, images, **choices)
    loss = ConsistencyLoss(model, mask="deviation", detach_mask=True, teacher=teacher, **choices)
    value = loss(images)
    torch.testing.assert_close(value.detach(), written(), rtol=0, atol=1e-10)
    found = gradients(value, model)
    assert sum(float(gradient.norm()) for gradient in found) > 1e-4
    for slope, change in slopes(list(model.parameters()), found, written):
        assert slope == pytest.approx(change, rel=1e-5, abs=1e-8)


@TAUGHT
@EVERY
@pytest.mark.parametrize("options", [MaskOptions(), DRAWN], ids=["plain", "drawn"])
def test_micro_batches_have_the_loss_gradient_and_details_of_the_batch(choices, options, taught):
    results = []
    for size in (None, 2):
        model = network("residual")
        loss = ConsistencyLoss(
            model,
            mask="deviation",
            detach_mask=False,
            mask_options=options,
            teacher=other() if taught else None,
            micro_batch=size,
            generator=torch.Generator().manual_seed(2),
            **choices,
        )
        value = loss(pictures(5))
        apart = loss.details.logit_disagreement
        results.append((value.detach(), gradients(value, model), loss.details.correlation))
        assert (apart is None) == (choices["logit_weight"] == 0)
        if apart is not None:
            assert apart.shape == (5,)
            assert not apart.requires_grad
            whole = choices["logit_weight"] * apart - loss.details.correlation
            torch.testing.assert_close(value.detach(), whole.mean())
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


@EVERY
def test_images_do_not_interact(choices):
    model, images = network("residual"), pictures(3)
    loss = ConsistencyLoss(model, mask="deviation", teacher=other(), **choices)
    loss(images)
    found = [loss.details.correlation, loss.details.logit_disagreement]
    for index, image in enumerate(images):
        loss(image[None])
        for whole, alone in zip(
            found, [loss.details.correlation, loss.details.logit_disagreement], strict=True
        ):
            if whole is not None:
                torch.testing.assert_close(whole[index : index + 1], alone)


@EVERY
def test_under_autocast_the_loss_is_near_and_its_gradient_finite(choices):
    model, images = network("grouped", dtype=torch.float32), pictures(dtype=torch.float32)
    loss = ConsistencyLoss(
        model, mask="deviation", teacher=other("grouped", torch.float32), target=1, **choices
    )
    expected = loss(images).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(images)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, abs=0.1)
    found = gradients(value, model)
    assert all(gradient.isfinite().all() for gradient in found)
    assert any(gradient.any() for gradient in found)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_signals_images_and_clips_are_mirrored_along_their_last_axis(axes):
    torch.manual_seed(0)
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    model = nn.Sequential(
        convolution(2, 4, 3, padding=1), nn.ReLU(), convolution(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1) if axes == 2 else nn.Identity(),
        Mean(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    images = torch.randn(2, 2, *(6, 7, 8)[-axes:], dtype=torch.float64)
    loss = ConsistencyLoss(model, "3", mask="deviation", mirror=True, target=1)
    seen = loss.compare(images)
    masked = (seen.mask[:, None] * images).flip(-1)
    torch.testing.assert_close(seen.second, grad_cam(model, masked, 1, layer="3").flip(-1))
    plain = ConsistencyLoss(model, "3", mask="deviation", target=1)
    assert (plain.compare(images).correlation - seen.correlation).abs().max() > 1e-4
    for module in model.modules():  # blind to mirrors
        if isinstance(module, convolution):
            module.weight.data = (module.weight.data + module.weight.data.flip(-1)) / 2
    torch.testing.assert_close(
        plain.compare(images).correlation, loss.compare(images).correlation, rtol=0, atol=1e-10
    )


class Mean(nn.Module):
    """Averages over all positions."""

    def forward(self, x):
        return x.flatten(2).mean(dim=2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_predictions_that_agree_pull_at_nothing(multi_label):
    model, images = network("residual"), pictures(3)
    whole = {"mask": "uniform", "mask_options": MaskOptions(value=1.0), "multi_label": multi_label}
    plain, loss = (ConsistencyLoss(model, logit_weight=w, **whole) for w in (0.0, 3.0))
    found, expected = gradients(loss(images), model), gradients(plain(images), model)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert loss.details.logit_disagreement.abs().max() < 1e-15
    assert plain.details.logit_disagreement is None


@pytest.mark.parametrize("scale", [1e-20, 1e8, 1e20])
@pytest.mark.parametrize("multi_label", [False, True])
def test_tiny_and_huge_logits_have_a_finite_disagreement(multi_label, scale):
    model = network("residual", dtype=torch.float32)
    model.head.fc.weight.data.mul_(scale)
    loss = ConsistencyLoss(model, mask="deviation", logit_weight=0.5, multi_label=multi_label)
    value = loss(pictures(dtype=torch.float32))
    assert value.isfinite()
    assert (loss.details.logit_disagreement >= -1e-6).all()
    assert all(gradient.isfinite().all() for gradient in gradients(value, model))


def test_the_multi_label_part_is_soft_cross_entropy_less_entropy_and_moves_the_last_bias():
    model, images = network("residual"), pictures(3)
    loss = ConsistencyLoss(model, mask="deviation", logit_weight=1.0, multi_label=True)
    value = loss(images)
    (found,) = torch.autograd.grad(value, model.head.fc.bias)
    masked = model(loss.compare(images).mask[:, None] * images)
    target = model(images).sigmoid().detach()
    soft = functional.binary_cross_entropy_with_logits(masked, target)
    (expected,) = torch.autograd.grad(soft, model.head.fc.bias)  # a constant entropy has none
    torch.testing.assert_close(found, expected)


def test_a_preset_holds_mirror_and_weight_and_a_keyword_overrides_them():
    model, images = network("plain"), pictures()
    own = Preset("deviation", mirror=True, logit_weight=0.4)
    by_preset = ConsistencyLoss(model, preset=own)
    by_keyword = ConsistencyLoss(
        model, mask="deviation", mirror=True, logit_weight=0.4, detach_mask=False
    )
    assert torch.equal(by_preset(images), by_keyword(images))
    off = ConsistencyLoss(model, preset=own, mirror=False, logit_weight=0.0)
    plain = ConsistencyLoss(model, mask="deviation", detach_mask=False)
    assert torch.equal(off(images), plain(images))
