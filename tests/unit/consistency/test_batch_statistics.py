import pytest
import torch
from tiny import network, pictures
from torch import nn

from atcon.attention import grad_cam, trace
from atcon.consistency import ConsistencyLoss
from atcon.errors import InputError


def untracked():
    model = network("plain")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return model


def by_the_batch(model):
    with pytest.warns(UserWarning, match="samples interact"):
        return ConsistencyLoss(model, mask="deviation", batch_statistics=True, detach_mask=False)


def test_equals_a_network_that_has_no_running_statistics():
    images = pictures(4)
    loss = by_the_batch(network("plain"))
    with pytest.warns(UserWarning, match="no running ones"):
        other = ConsistencyLoss(untracked(), mask="deviation", detach_mask=False)
    found, expected = loss(images), other(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.backward()
    expected.backward()
    for a, b in zip(loss.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)


def test_samples_interact():
    images = pictures(3)
    loss = by_the_batch(network("plain"))
    before = loss.compare(images).correlation
    images[1] = 3 * images[1].flip(-1) + 1
    assert (loss.compare(images).correlation[0] - before[0]).abs() > 1e-6


def test_running_statistics_stay_and_later_maps_use_them():
    model, images = network("plain").train(), pictures(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = grad_cam(model, images)
    loss = by_the_batch(model)
    loss(images).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(grad_cam(model, images), expected)
    torch.testing.assert_close(trace(model, images).logits, network("plain")(images))


def test_gradient_matches_finite_differences():
    model, images = network("plain"), pictures(3)
    loss = by_the_batch(model)
    loss.target = 1
    weight = model[4].weight
    along = torch.randn(
        weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0)
    )
    slope = (torch.autograd.grad(loss(images), weight)[0] * along).sum().item()
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            weight.add_(along, alpha=step)
            ends.append(loss(images).item())
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_without_running_statistics_micro_batches_are_refused():
    with pytest.raises(InputError, match="statistics of the batch"):
        ConsistencyLoss(untracked(), micro_batch=2)
