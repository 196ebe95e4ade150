"""Promise 7: of 10,000 maps and images of every bad kind, no loss and no gradient is infinite."""

from itertools import product

import pytest
import torch
from maps import take
from nets import stages
from tiny import network
from tiny_transformers import transformer
from torch import nn

from atcon.attention import ATTENTION
from atcon.consistency import CORRELATIONS, MASKS, MATCHINGS, ConsistencyLoss

SMALL, FULL = 140, 10_000
NUMBERS = [SMALL, pytest.param(FULL, marks=pytest.mark.slow)]
KINDS = ("noise", "constant", "zero", "huge", "tiny", "one pixel", "rounding")
EXTREMES = {torch.float32: (1e18, 1e-42), torch.float64: (1e150, 1e-310)}
"""The largest whose square is finite, and what is below the smallest normal number."""


def fuzzed(
    count: int, *grid: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> torch.Tensor:
    """Draw `[count, *grid]`, one kind after the other; scales and signs are drawn too."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(count, *grid, generator=generator, dtype=dtype)
    flat = found.flatten(1)
    huge, tiny = EXTREMES[dtype]
    for at, kind in enumerate(KINDS):
        some = flat[at :: len(KINDS)]
        first = some[:, :1].clone()
        if kind == "constant":
            some[:] = first
        elif kind == "zero":
            some[:] = 0
        elif kind in ("huge", "tiny"):
            some *= huge if kind == "huge" else tiny
        elif kind == "one pixel":
            some[:] = 0
            some[torch.arange(len(some)), torch.arange(len(some)) % some.shape[1]] = first[:, 0]
        elif kind == "rounding":  # constant but for the last bit of some positions
            some[:] = torch.where(some > 0, torch.nextafter(first, first * 2), first)
    return found


def finite(*tensors: torch.Tensor | None) -> bool:
    return all(tensor is None or bool(tensor.isfinite().all()) for tensor in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", [(1, 1), (5,), (7, 7), (2, 3, 4)])
@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("count", NUMBERS)
def test_a_correlation_and_its_gradient_are_finite(correlation, grid, dtype, count):
    first = fuzzed(count, *grid, dtype=dtype).requires_grad_()
    # every kind meets every other: the second is one kind further on in each round
    second = fuzzed(count + len(KINDS), *grid, dtype=dtype, seed=1)
    second = torch.cat([part.roll(at, 0) for at, part in enumerate(second.split(len(KINDS)))])
    second = second[:count].requires_grad_()
    value = CORRELATIONS[correlation](first, second)
    assert finite(value)
    assert bool((value.abs() <= 1.001).all())
    slopes = torch.autograd.grad(value.sum(), (first, second))
    assert finite(*slopes)


@pytest.mark.parametrize("grid", [(1, 1), (5,), (7, 7), (2, 3, 4)])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("count", NUMBERS)
def test_a_mask_and_its_gradient_are_finite(mask, grid, count):
    maps = fuzzed(count, *grid).requires_grad_()
    found = MASKS[mask](maps)
    assert finite(found)
    assert bool(((found >= 0) & (found <= 1)).all())
    if found.requires_grad:
        (slope,) = torch.autograd.grad(found.sum(), maps)
        assert finite(slope)


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("count", NUMBERS)
def test_a_map_of_images_and_its_gradient_are_finite(name, count):
    entry = ATTENTION[name]
    tokens = entry.resolution == "tokens"
    model = (transformer("vit") if tokens else network("residual")).float()
    images = fuzzed(count, 3, 32, 32) if tokens else fuzzed(count, 3, 8, 8)
    for part in images.split(500):
        maps = take(name, model, part, create_graph=entry.differentiable)
        assert finite(maps)
        if entry.differentiable:
            weights = list(model.parameters())
            assert finite(
                *torch.autograd.grad(maps.sum(), weights, materialize_grads=True, allow_unused=True)
            )


@pytest.mark.parametrize("count", NUMBERS)
@pytest.mark.parametrize(
    ("matching", "correlation"), [*product(MATCHINGS, ["pearson"]), ("mask", "ssim")]
)
def test_a_loss_of_images_and_its_gradient_are_finite(matching, correlation, count):
    model = network("residual", dtype=torch.float32)
    weights = list(model.parameters())
    loss = ConsistencyLoss(model, matching=matching, correlation=correlation, detach_mask=False)
    images = fuzzed(count, 3, 8, 8)
    for part in images.split(500):
        value = loss(part)
        assert finite(value)
        assert finite(*torch.autograd.grad(value, weights, materialize_grads=True))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_loss_under_autocast_is_finite_with_its_gradient(kind):
    model = stages(torch.float32)
    images = fuzzed(SMALL, 3, 8, 8).clamp(-1e4, 1e4)  # float16 ends at 65,504
    with torch.autocast("cpu", dtype=kind):
        value = ConsistencyLoss(model)(images)
    assert finite(value)
    assert finite(*torch.autograd.grad(value, list(model.parameters()), materialize_grads=True))


@pytest.mark.parametrize("built", ["equal logits", "zero network", "one position"])
def test_a_network_that_says_nothing_has_a_finite_loss_and_gradient(built):
    model, layer = network("residual", dtype=torch.float32), None
    if built == "equal logits":
        nn.init.zeros_(model.head.fc.weight)
    elif built == "zero network":
        for weight in model.parameters():
            nn.init.zeros_(weight)
    else:
        model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
        layer = "1"
    value = ConsistencyLoss(model, layer, detach_mask=False)(fuzzed(SMALL, 3, 8, 8))
    assert finite(value)
    assert finite(*torch.autograd.grad(value, list(model.parameters()), materialize_grads=True))
