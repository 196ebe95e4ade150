"""RISE (Petsiuk et al., 2018): the scores of randomly masked images, averaged by mask."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from atcon.attention.method import Attention
from atcon.attention.noise import source_of, uniform
from atcon.attention.perturbation import PER_PASS, chunk_length, masked_scores, per_axis
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, Maps

_SMOOTH: dict[int, Literal["linear", "bilinear", "trilinear"]] = {
    1: "linear",
    2: "bilinear",
    3: "trilinear",
}


def rise_of(
    run: Trace,
    classes: Classes,
    *,
    create_graph: bool = False,  # noqa: ARG001  refused by the table entry
    masks: int = 500,
    cells: int | tuple[int, ...] = 7,
    keep: float = 0.5,
    score: str = "softmax",
    batch: int = PER_PASS,
    generator: torch.Generator | None = None,
) -> Maps:
    """Average random masks, weighted by the score of what they leave: A = E[y_c(x M) M] / E[M].

    Needs nothing of the network but its output. All images of a batch get the same masks.

    Args:
        run: A forward pass; its graph is not needed.
        classes: The class to explain, one for each image.
        create_graph: Cannot be.
        masks: How many; the authors take 4,000 to 8,000, and noise falls with the square root.
        cells: Of the coarse random grid, one number or one for each axis.
        keep: Probability that a cell is kept.
        score: "softmax" as published, "sigmoid" for multi-label networks, or the "logit".
        batch: Masked images in one forward pass.
        generator: Where the masks come from; None draws the same masks at every call.

    Returns:
        One map per image at the input's resolution, in units of the score.

    Raises:
        InputError: An option is out of range.
    """
    if masks < 1 or not 0 < keep < 1:
        raise InputError(
            f"masks must be 1 or more and keep between 0 and 1, but they are {masks} and {keep}"
        )
    grid = tuple(run.images.shape[2:])
    if len(grid) not in _SMOOTH:
        raise InputError(f"RISE needs inputs with 1, 2 or 3 axes, but these have {len(grid)}")
    coarse = [min(n, size) for n, size in zip(per_axis(cells, grid, "cells"), grid, strict=True)]
    like = in_single_precision(run.images.detach())
    drawn = uniform((masks, *coarse), source := source_of(generator), like) < keep
    shifts = uniform((masks, len(grid)), source, like)
    chunks = _smooth_masks(drawn.to(like), shifts, grid, chunk_length(batch, len(run.images)))
    total = like.new_zeros(len(like), *grid)
    for chunk, scores in masked_scores(run, classes, chunks, score=score):
        total += torch.einsum("mb,m...->b...", scores.to(like), chunk)
    return total / (masks * keep)


def _smooth_masks(
    drawn: Tensor, shifts: Tensor, grid: tuple[int, ...], length: int
) -> Iterator[Tensor]:
    """Enlarge coarse grids to one cell more than the image and cut the image out at random."""
    cell = [math.ceil(size / n) for size, n in zip(grid, drawn.shape[1:], strict=True)]
    large = [(n + 1) * side for n, side in zip(drawn.shape[1:], cell, strict=True)]
    starts = (shifts * shifts.new_tensor(cell)).long().tolist()
    for first in range(0, len(drawn), length):
        fine = functional.interpolate(
            drawn[first : first + length, None], size=large, mode=_SMOOTH[len(grid)]
        )[:, 0]
        yield torch.stack(
            [
                mask[tuple(slice(at, at + size) for at, size in zip(start, grid, strict=True))]
                for mask, start in zip(fine, starts[first : first + length], strict=True)
            ]
        )


rise = Attention(
    rise_of,
    "RISE",
    "Petsiuk et al., 2018",
    resolution="input",
    differentiable=False,
    signed=False,
)
