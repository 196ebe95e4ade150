"""Autocast: the network runs in half precision, maps and their agreement in float32."""

import copy

import pytest
import torch
from nets import assert_same_gradients, gradients, loss_and_gradients, stages
from tiny import pictures
from torch.nn.functional import cross_entropy

from atcon import ConsistencyLoss, explain
from atcon.attention import ATTENTION
from atcon.consistency import PRESETS

HALVES = {"bf16": (torch.bfloat16, 2**-8), "fp16": (torch.float16, 2**-11)}
"""Each half precision with its unit of rounding."""

half = pytest.mark.parametrize(("dtype", "unit"), HALVES.values(), ids=HALVES)


def model():
    return stages(torch.float32).train()


def images(count=4):
    return pictures(count, size=16, dtype=torch.float32)


def autocast(dtype):
    return torch.autocast("cpu", dtype)


@half
@pytest.mark.parametrize("name", ["grad_cam", "guided_backprop"])
def test_maps_are_float32_and_near_the_exact_ones(name, dtype, unit):
    exact = explain(model(), images(), name)
    with autocast(dtype):
        rounded = explain(model(), images(), name)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 10 * unit


@half
@pytest.mark.parametrize("preset", PRESETS)
def test_the_correlation_is_float32_and_gradients_are_near_the_exact_ones(preset, dtype, unit):
    expected = loss_and_gradients(model(), images(), preset=preset)
    with autocast(dtype):
        loss = ConsistencyLoss(network := model(), preset=preset)
        value = loss(images())
    value.backward()
    assert value.dtype == loss.details.correlation.dtype == torch.float32
    assert abs(float(value.detach()) - float(expected[0])) < 20 * unit
    found = gradients(network)
    assert found.keys() == expected[1].keys()
    if preset == "paper":  # its mask is a step: 1e-4 in the weights move the gradient by 10 %
        return
    joined = [torch.cat([g[name].flatten() for name in found]) for g in (found, expected[1])]
    assert float((joined[0] - joined[1]).norm() / joined[1].norm()) < 60 * unit


@half
def test_a_cast_that_autocast_cached_without_gradient_is_not_used(dtype, unit):
    """Inside one autocast block, after a look without gradients, every weight has its gradient."""
    network = model().eval()
    with autocast(dtype):
        fresh = loss_and_gradients(copy.deepcopy(network), images())[1]
        with torch.no_grad():
            network(images())
        loss = ConsistencyLoss(network)
        value = loss(images())
        value.backward()
    assert_same_gradients(gradients(network), fresh, 0)


@half
def test_the_loss_leaves_no_cast_without_gradient_behind(dtype, unit):
    """The supervised loss that follows in the same autocast block has every gradient."""
    labels = torch.tensor([0, 1, 2, 3])
    found = []
    for comes_first in (False, True):
        network = model().eval()
        with autocast(dtype):
            if comes_first:
                ConsistencyLoss(network)(images())
                explain(network, images())
            cross_entropy(network(images()), labels).backward()
        found.append(gradients(network))
    assert found[0].keys() == {name for name, _ in network.named_parameters()}
    assert_same_gradients(found[1], found[0], 0)


@half
def test_a_second_loss_in_the_same_block_equals_the_first(dtype, unit):
    network = model()
    loss = ConsistencyLoss(network)
    found = []
    with autocast(dtype):
        for _ in range(3):
            network.zero_grad()
            loss(images()).backward()
            found.append(gradients(network))
    assert_same_gradients(found[1], found[0], 0)
    assert_same_gradients(found[2], found[0], 0)


@half
def test_backward_inside_the_block_is_backward_outside_up_to_rounding(dtype, unit):
    found = []
    for inside in (False, True):
        network = model()
        with autocast(dtype):
            value = ConsistencyLoss(network)(images())
            if inside:
                value.backward()
        if not inside:
            value.backward()
        found.append(torch.cat([g.flatten() for g in gradients(network).values()]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 8 * unit


def test_the_gradient_scaler_gives_the_unscaled_gradient():
    """With a scale that float16 needs; unscaled, the gradients are those of no scale."""
    plain, scaled = model(), model()
    for network, scale in ((plain, 1.0), (scaled, 2.0**12)):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        with autocast(torch.float16):
            value = ConsistencyLoss(network)(images())
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        kept = gradients(network)
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        scaler.step(optimizer)
        moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {name for name, g in kept.items() if g.abs().max() > 0}
    assert_same_gradients(gradients(scaled), gradients(plain), 0.02)


def test_a_model_in_bfloat16_weights_gives_float32_maps():
    network = model().to(torch.bfloat16)
    for name in ("grad_cam", "guided_backprop"):
        maps = ATTENTION[name](network, images().to(torch.bfloat16))
        exact = ATTENTION[name](model(), images())
        assert maps.dtype == torch.float32
        assert float((maps - exact).norm() / exact.norm()) < 0.1
