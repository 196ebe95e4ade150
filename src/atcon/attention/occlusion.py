"""Occlusion: how far the score falls when a window is hidden (Zeiler and Fergus; Fong and Vedaldi).

Zeiler and Fergus (2014) hide it by a constant, Fong and Vedaldi (2017) also by noise and by blur.
"""

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from atcon.attention.method import Attention
from atcon.attention.noise import normal, source_of
from atcon.attention.perturbation import (
    PER_PASS,
    chunk_length,
    class_scores,
    masked_scores,
    per_axis,
)
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, Images, Maps


def occlusion_of(  # noqa: PLR0913  a map's options are arguments
    run: Trace,
    classes: Classes,
    *,
    create_graph: bool = False,  # noqa: ARG001  refused by the table entry
    window: int | tuple[int, ...] | None = None,
    stride: int | tuple[int, ...] | None = None,
    fill: str = "constant",
    value: float = 0.0,
    blur: float = 0.05,
    score: str = "logit",
    batch: int = PER_PASS,
    generator: torch.Generator | None = None,
) -> Maps:
    """Hide every window in turn: A = mean of y_c(x) - y_c(x with the window hidden) over windows.

    Needs nothing of the network but its output. One forward pass of an image for each window, which
    are `((size - window) / stride + 1)` along each axis, rounded up; the last may be cut off.

    Args:
        run: A forward pass; its graph is not needed.
        classes: The class to explain, one for each image.
        create_graph: Cannot be.
        window: Its size, one number or one for each axis; None takes an eighth of each axis.
        stride: From window to window; None takes half a window.
        fill: "constant"; "noise" with the mean and the deviation of each image's channels; or
            "blur", the image itself without its details.
        value: Of the constant; 0 is the mean colour of normalised images.
        blur: Standard deviation of the Gaussian, as a fraction of each axis.
        score: What falls: the "logit", or the "softmax" or "sigmoid" probability.
        batch: Occluded images in one forward pass.
        generator: Where the noise comes from; None draws the same noise at every call.

    Returns:
        One signed map per image at the input's resolution, in units of the score; a pixel that no
        window covers is 0.

    Raises:
        InputError: An option is out of range.
    """
    grid = tuple(run.images.shape[2:])
    if window is None:
        window = tuple(math.ceil(size / 8) for size in grid)
    windows = per_axis(window, grid, "window")
    if stride is None:
        stride = tuple(math.ceil(side / 2) for side in windows)
    strides = per_axis(stride, grid, "stride")
    images = in_single_precision(run.images.detach())
    filling = _filling(images, fill, value, blur, generator)
    whole = class_scores(run.logits.detach(), classes, score)
    length = chunk_length(batch, len(images))
    total, covered = torch.zeros_like(images[:, 0]), torch.zeros_like(images[0, 0])
    chunks = _masks(images, windows, strides, length)
    for chunk, scores in masked_scores(run, classes, chunks, filling, score=score):
        hidden = 1 - chunk
        total += torch.einsum("mb,m...->b...", (whole - scores).to(images), hidden)
        covered += hidden.sum(dim=0)
    return total / covered.clamp(min=1)


def _masks(images: Images, windows: list[int], strides: list[int], length: int) -> Iterator[Tensor]:
    """Give masks that are 0 in one window and 1 around it, `length` at a time."""
    grid = images.shape[2:]
    axes = [
        [slice(start, start + window) for start in range(0, max(size - window, 0) + stride, stride)]
        for size, window, stride in zip(grid, windows, strides, strict=True)
    ]
    places = list(product(*axes))
    for first in range(0, len(places), length):
        chunk = places[first : first + length]
        masks = images.new_ones(len(chunk), *grid)
        for mask, place in zip(masks, chunk, strict=True):
            mask[place] = 0
        yield masks


def _filling(
    images: Images, fill: str, value: float, blur: float, generator: torch.Generator | None
) -> Images:
    if fill == "constant":
        return torch.full_like(images, value)
    if fill == "noise":
        flat = images.flatten(2)
        mean, deviation = flat.mean(dim=2), flat.std(dim=2, correction=0)
        shape = (*mean.shape, *(1,) * (images.ndim - 2))
        noise = normal(images.shape[1:], source_of(generator), images)
        return mean.view(shape) + deviation.view(shape) * noise
    if fill == "blur" and blur > 0:
        return _blurred(images, blur)
    raise InputError(
        "fill must be 'constant', 'noise' or 'blur', and blur above 0, "
        f"but they are {fill!r} and {blur}"
    )


def _blurred(images: Images, blur: float) -> Images:
    """Average along each axis with Gaussian weights, which sum to one also at the edges."""
    for axis in range(2, images.ndim):
        size = images.shape[axis]
        place = torch.arange(size, dtype=images.dtype, device=images.device)
        distance = (place[:, None] - place) / (blur * size)
        weights = torch.softmax(-(distance**2) / 2, dim=1)
        images = (images.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return images


occlusion = Attention(
    occlusion_of,
    "Occlusion",
    "Zeiler and Fergus, 2014; Fong and Vedaldi, 2017",
    resolution="input",
    differentiable=False,
)
