"""Promise 7: of 10,000 maps and images of every bad kind, no loss and no gradient is infinite."""

import copy
from collections.abc import Iterator
from itertools import cycle, product

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


def alternating(images: torch.Tensor, model: nn.Module) -> Iterator[tuple[torch.Tensor, nn.Module]]:
    """Cut images into parts, for a network in turn with and without shifts.

    Without them an image of zeros has a map of zeros.
    """
    shifted, plain = model.float(), copy.deepcopy(model).float()
    for name, value in plain.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.zero_()
    parts = images.split(min(500, len(images) // 2))
    yield from zip(parts, cycle((shifted, plain)), strict=False)


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
    images = fuzzed(count, 3, 32, 32) if tokens else fuzzed(count, 3, 8, 8)
    zeros = 0
    for part, model in alternating(images, transformer("vit") if tokens else network("residual")):
        maps = take(name, model, part, create_graph=entry.differentiable)
        assert finite(maps)
        if entry.differentiable:
            options = {"materialize_grads": True, "allow_unused": True}
            assert finite(*torch.autograd.grad(maps.sum(), list(model.parameters()), **options))
        zeros += int((maps.flatten(1) == 0).all(dim=1).sum())
    assert tokens or not entry.differentiable or zeros >= count // 2 // len(KINDS), (
        "no map of zeros among them"
    )


@pytest.mark.parametrize("count", NUMBERS)
@pytest.mark.parametrize(
    ("matching", "correlation"), [*product(MATCHINGS, ["pearson"]), ("mask", "ssim")]
)
def test_a_loss_of_images_and_its_gradient_are_finite(matching, correlation, count):
    choices = {"matching": matching, "correlation": correlation, "detach_mask": False}
    for part, model in alternating(fuzzed(count, 3, 8, 8), network("residual")):
        value = ConsistencyLoss(model, **choices)(part)
        assert finite(value)
        weights = list(model.parameters())
        assert finite(*torch.autograd.grad(value, weights, materialize_grads=True))


COMBINATIONS = [
    {"matching": matching, "correlation": correlation, **mask}
    for matching, correlation in product(MATCHINGS, CORRELATIONS)
    for mask in ([{"mask": m} for m in MASKS] if MATCHINGS[matching].by == "mask" else [{}])
]


EACH = -(-FULL // len(COMBINATIONS))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("images_each", [14, pytest.param(EACH, marks=pytest.mark.slow)])
def test_every_combination_is_finite_with_its_gradient_also_under_autocast(kind, images_each):
    images = fuzzed(images_each * len(COMBINATIONS), 3, 8, 8)
    if kind == torch.float16:
        images = images.clamp(-1e4, 1e4)  # it ends at 65,504
    model = stages(torch.float32)
    for part, choices in zip(images.split(images_each), COMBINATIONS, strict=True):
        with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            value = ConsistencyLoss(model, detach_mask=False, **choices)(part)
        assert finite(value), choices
        weights = list(model.parameters())
        assert finite(*torch.autograd.grad(value, weights, materialize_grads=True)), choices


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
