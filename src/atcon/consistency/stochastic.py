"""Masks with their options: what an image draws for them (section 6.1), and what it does to P.

Every image draws numbers in [0, 1), one for each of its masks and each option that is drawn; all
that follows is a function of them. So the parts of a batch draw what the whole of it draws, an
image draws the same whatever comes after it, and a run can be repeated.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.consistency.mask_options import MaskOptions
from atcon.consistency.masks import Mask, reference_mask, uniform_mask
from atcon.consistency.windows import blurred, smooth_noise
from atcon.types import Maps

Draws = Mapping[str, Tensor]
"""By the name of an option the numbers drawn, `[batch, mask]` or, of one mask, `[batch]`."""

SATURATED = 1e-6
"""How near P may come to 0 and 1 before its logit is taken, which then is within 13.8 of 0."""

NOISE_WIDTH = 1 / 16
"""Standard deviation of the blur of the noise, as a share of each axis: 14 of 224 pixels."""


def draw(options: MaskOptions, batch: int, masks: int, generator: torch.Generator) -> Draws:
    """Draw what the options leave open for the masks of a batch.

    Args:
        options: At the start of the training: what has faded by now is drawn all the same, so that
            the same step draws the same.
        batch: How many images there are.
        masks: How many masks each has.
        generator: Draws.
    """
    kinds = options.drawn
    shape = (batch, masks, len(kinds))
    shares = torch.rand(shape, generator=generator, device=generator.device)
    return {kind: shares[..., index] for index, kind in enumerate(kinds)}


def mask_of(maps: Maps, form: Mask, options: MaskOptions, draws: Draws | None = None) -> Maps:
    """Turn maps into masks: blur, form, temperature and noise, floor, strength, in this order.

    Args:
        maps: `[batch, *grid]`, at the images' resolution.
        form: From a map to P (Eq. 6).
        options: What is done besides.
        draws: What each image drew for this mask; without, the middle of every range and no noise.
    """
    draws = draws or {}
    p = _shaped(form, options)(_blurred(maps, options, draws.get("scales")))
    if options.temperature_range != (1.0, 1.0) or (options.noise and "noise" in draws):
        p = with_logit(
            p,
            temperatures(options, _shares(draws.get("temperature"), p)),
            _noise(options, draws.get("noise"), p),
        )
    p = with_floor(p, options.floor)
    if options.strength_range == (1.0, 1.0):
        return p
    return with_strength(p, strengths(options, _shares(draws.get("strength"), p)))


def make_mask(form: Mask, options: MaskOptions) -> Mask:
    """Compose what comes before the strength, with nothing drawn; with nothing to do, the form."""
    options = replace(options, strength=1.0)
    shaped, scales = _shaped(form, options), options.scales or (options.smooth,)
    if scales[0] == 0 and options.floor == 0 and options.temperature_range == (1.0, 1.0):
        return shaped
    return lambda maps: mask_of(maps, form, options)


def strengths(options: MaskOptions, shares: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Give every image its strength, low + (high - low) u for a number u in [0, 1)."""
    low, high = options.strength_range
    return low + (high - low) * shares


def temperatures(options: MaskOptions, shares: Float[Tensor, "*mask"]) -> Float[Tensor, "*mask"]:
    """Give every image its temperature, low (high / low)^u for a number u in [0, 1)."""
    low, high = options.temperature_range
    return low * (high / low) ** shares


def with_logit(p: Maps, temperatures: Float[Tensor, " batch"], noise: Maps | float = 0.0) -> Maps:
    """P' = logistic(logit P / t + noise), with one t for each mask."""
    logit = torch.logit(p, SATURATED)
    return torch.sigmoid(logit / _per_mask(temperatures, p) + noise)


def with_floor(p: Maps, floor: float) -> Maps:
    """P' = floor + (1 - floor) P."""
    return floor + (1 - floor) * p if floor else p


def with_strength(p: Maps, strengths: Float[Tensor, " batch"]) -> Maps:
    """P' = 1 - r (1 - P), with one r for each mask."""
    return 1 - _per_mask(strengths, p) * (1 - p)


def _shaped(form: Mask, options: MaskOptions) -> Mask:
    """Give a form its own parameter."""
    if form is reference_mask and options.slope != MaskOptions.slope:
        return partial(reference_mask, slope=options.slope)
    if form is uniform_mask and options.value != MaskOptions.value:
        return partial(uniform_mask, value=options.value)
    return form


def _blurred(maps: Tensor, options: MaskOptions, shares: Tensor | None) -> Tensor:
    """Blur every map by the scale that it drew, or all by the first or only one."""
    scales = options.scales or (options.smooth,)
    if shares is None or len(scales) == 1:
        return blurred(maps, scales[0])
    chosen = [scales[int(share * len(scales))] for share in shares.tolist()]
    return torch.cat([blurred(maps[i : i + 1], sigma) for i, sigma in enumerate(chosen)])


def _noise(options: MaskOptions, shares: Tensor | None, like: Tensor) -> Tensor | float:
    """Draw every image its noise; the number that it drew is the seed."""
    if shares is None or options.noise == 0:
        return 0.0
    white = [
        torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(int(share * 2**24)))
        for share in shares.tolist()
    ]
    return options.noise * smooth_noise(torch.stack(white).to(like), NOISE_WIDTH)


def _shares(drawn: Tensor | None, like: Tensor) -> Tensor:
    """Give the numbers drawn, or those of the middle."""
    return like.new_full((len(like),), 0.5) if drawn is None else drawn.to(like)


def _per_mask(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).reshape(-1, *(1,) * (like.ndim - 1))
