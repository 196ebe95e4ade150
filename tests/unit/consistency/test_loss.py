import dataclasses

import numpy as np
import pytest
import torch
from tiny import NETWORKS, Head, network, pictures
from torch import nn

from atcon.attention import grad_cam, guided_backprop
from atcon.consistency import (
    MASKS,
    PRESETS,
    ConsistencyLoss,
    between_images,
    entropy,
    mask_contrast,
    pearson,
)
from atcon.errors import InputError

EVERY_MASK = pytest.mark.parametrize("mask", MASKS)


def gradients(loss, model):
    return torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("built", NETWORKS)
def test_is_minus_the_mean_correlation_of_the_two_maps(built, preset):
    model, images = network(built), pictures(3)
    loss = ConsistencyLoss(model, preset=preset)
    value = loss(images)
    seen = loss.compare(images)
    assert value.shape == ()
    torch.testing.assert_close(value.detach(), -loss.details.correlation.mean())
    assert torch.equal(loss.details.correlation, seen.correlation)
    assert torch.equal(seen.mask, loss.mask(seen.maps["guided_backprop"]))
    assert -1 - 1e-12 <= value.item() <= 1 + 1e-12


def test_compares_the_maps_of_the_image_and_of_the_masked_image_for_one_class():
    model, images = network("residual"), pictures(3)
    seen = ConsistencyLoss(model, mask="deviation").compare(images)
    top = model(images).argmax(dim=1)
    masked = seen.mask[:, None] * images
    assert torch.equal(seen.classes, top)
    torch.testing.assert_close(seen.logits, model(images))
    torch.testing.assert_close(seen.first, grad_cam(model, images, top))
    torch.testing.assert_close(seen.maps["guided_backprop"], guided_backprop(model, images, top))
    torch.testing.assert_close(seen.second, grad_cam(model, masked, top))
    torch.testing.assert_close(seen.correlation, pearson(seen.first, seen.second))


def test_details_describe_every_image():
    model, images = network("residual"), pictures(3)
    loss = ConsistencyLoss(model, mask="deviation")
    assert loss.details is None
    loss(images)
    seen, details = loss.compare(images), loss.details
    assert torch.equal(details.mask_contrast, mask_contrast(seen.mask))
    assert torch.equal(details.entropy, entropy(seen.first))
    assert details.between_images == pytest.approx(float(between_images(seen.first)))
    assert details.classes.tolist() == model(images).argmax(dim=1).tolist()
    assert (details.layer, details.activations) == ("relu", 2)
    tensors = [v for v in vars_of(details).values() if isinstance(v, torch.Tensor)]
    assert all(len(t) == 3 and not t.requires_grad for t in tensors)


def vars_of(details):
    return {field.name: getattr(details, field.name) for field in dataclasses.fields(details)}


def test_a_keyword_overrides_the_preset():
    model, images = network("plain"), pictures()
    by_name = ConsistencyLoss(model, preset="paper", mask="deviation")
    assert by_name.mask is MASKS["deviation"]
    assert by_name.preset.layer == "convolution"
    by_name(images)
    assert by_name.details.layer == "4"
    assert ConsistencyLoss(model, preset="paper").mask is MASKS["variance"]
    for detach_mask in (False, True):
        found = ConsistencyLoss(model, detach_mask=detach_mask).preset
        assert found == dataclasses.replace(PRESETS["default"], detach_mask=detach_mask)
    assert ConsistencyLoss(model, preset="reference").preset.squash
    by_name = ConsistencyLoss(model, "1")
    by_name(images)
    assert by_name.details.layer == "1"


def test_masks_and_correlations_may_be_functions():
    model, images = network("plain"), pictures()
    whole = ConsistencyLoss(model, mask=torch.ones_like)
    assert whole(images).item() == pytest.approx(-1)
    fixed = ConsistencyLoss(model, correlation=lambda a, b: a.flatten(1).mean(dim=1) * 0 + 0.25)
    assert fixed(images).item() == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("choice", "nearest"),
    [
        ({"preset": "refrence"}, "reference"),
        ({"mask": "devation"}, "deviation"),
        ({"correlation": "person"}, "pearson"),
        ({"correlation": "sim"}, "ssim"),
        ({"matching": "upsampel"}, "upsample"),
        ({"maps": ("grad_cam", "guided_backprob")}, "guided_backprop"),
    ],
)
def test_an_unknown_name_gives_the_nearest(choice, nearest):
    with pytest.raises(InputError, match=f"did you mean '{nearest}'"):
        ConsistencyLoss(network("plain"), **choice)


@pytest.mark.parametrize("target", [2, torch.tensor([2, 2]), lambda logits: logits.argmin(dim=1)])
def test_the_class_can_be_given(target):
    model, images = network("plain"), pictures()
    loss = ConsistencyLoss(model, target=target)
    loss(images)
    expected = model(images).argmin(dim=1).tolist() if callable(target) else [2, 2]
    assert loss.details.classes.tolist() == expected


@EVERY_MASK
def test_a_batch_of_one_is_a_batch(mask):
    model, images = network("plain"), pictures(3)
    loss = ConsistencyLoss(model, mask=mask)
    alone = [loss(image[None]).item() for image in images]
    assert np.isnan(loss.details.between_images)
    assert loss(images).item() == pytest.approx(np.mean(alone), abs=1e-10)


@EVERY_MASK
def test_one_small_step_lowers_the_loss(mask):
    model, images = network("residual"), pictures(4)
    loss = ConsistencyLoss(model, mask=mask, detach_mask=False)
    before = loss(images)
    before.backward()
    slope = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    rate = 1e-7
    torch.optim.SGD(model.parameters(), rate).step()
    assert slope > 1e-8
    assert (loss(images) - before).item() == pytest.approx(-rate * slope, rel=0.01)


def test_steps_move_the_weights_and_no_buffer():
    model, images = network("plain").train(), pictures(4)
    loss, optimizer = ConsistencyLoss(model, mask="deviation"), None
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weight = model[0].weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        loss(images).backward()
        optimizer.step()
    assert not torch.equal(model[0].weight, weight)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert all(module.training for module in model.modules())


def test_dropout_and_batch_statistics_play_no_part():
    model, images = network("plain"), pictures(4)
    expected = ConsistencyLoss(model)(images)
    loss = ConsistencyLoss(model.train())
    assert torch.equal(loss(images), expected)
    assert torch.equal(loss(images), expected)


def test_without_gradients_the_value_is_the_same():
    model, images = network("grouped"), pictures()
    loss = ConsistencyLoss(model)
    expected = loss(images)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = loss(images + 0)
        assert not found.requires_grad
        assert torch.equal(found, expected)


def test_autocast_gives_a_nearby_loss_with_a_finite_gradient():
    model, images = network("grouped", dtype=torch.float32), pictures(dtype=torch.float32)
    loss = ConsistencyLoss(model, mask="deviation")
    expected = loss(images).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(images)
    assert value.item() == pytest.approx(expected, abs=0.05)
    found = gradients(value, model)
    assert all(gradient.isfinite().all() for gradient in found)
    assert any(gradient.any() for gradient in found)


def assert_finite(loss, images):
    value = loss(images)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(value, loss.model))
    return value


@EVERY_MASK
@pytest.mark.parametrize("built", NETWORKS)
def test_a_black_image_has_a_finite_loss_and_gradient(built, mask):
    images = pictures(dtype=torch.float32)
    images[0] = 0
    assert_finite(ConsistencyLoss(network(built, dtype=torch.float32), mask=mask), images)


@EVERY_MASK
@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e20])
@pytest.mark.parametrize("preset", PRESETS)
def test_tiny_and_huge_logits_have_a_finite_loss_and_gradient(scale, preset, mask):
    model = network("residual", dtype=torch.float32)
    model.head.fc.weight.data.mul_(scale)
    loss = ConsistencyLoss(model, preset=preset, mask=mask)
    assert_finite(loss, pictures(dtype=torch.float32))


@EVERY_MASK
def test_equal_logits_have_no_correlation(mask):
    model = network("residual", dtype=torch.float32)
    nn.init.zeros_(model.head.fc.weight)
    nn.init.ones_(model.head.fc.bias)
    value = assert_finite(ConsistencyLoss(model, mask=mask), pictures(dtype=torch.float32))
    assert value == 0


@EVERY_MASK
def test_a_network_of_zeros_has_no_correlation(mask):
    model = network("residual", dtype=torch.float32)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    value = assert_finite(ConsistencyLoss(model, mask=mask), pictures(dtype=torch.float32))
    assert value == 0


@EVERY_MASK
def test_a_map_of_one_position_has_no_correlation(mask):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), Head(4))
    loss = ConsistencyLoss(model, "1", mask=mask)
    assert assert_finite(loss, torch.randn(2, 3, 8, 8)) == 0


def test_a_network_without_activations_is_an_input_error():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), Head(4))
    with pytest.raises(InputError, match="Guided Backpropagation"):
        ConsistencyLoss(model)(torch.randn(2, 3, 8, 8))


def test_takes_any_number_of_batches_of_any_size():
    loss = ConsistencyLoss(network("plain"))
    for count, size in ((2, 12), (3, 16), (1, 10)):
        assert loss(pictures(count, size)).isfinite()
        assert len(loss.details.correlation) == count


def test_a_layer_given_as_a_module_is_the_layer_of_its_name():
    model, images = network("plain"), pictures()
    by_module, by_name = ConsistencyLoss(model, model[4]), ConsistencyLoss(model, "4")
    for _ in range(2):
        assert torch.equal(by_module(images), by_name(images))
    assert by_module.layer_name == "4"
    assert len(list(by_module.modules())) == len(list(model.modules())) + 1
