"""Gaussian windows over maps of any number of axes: a blur, smooth noise, local means for SSIM.

A window is applied axis by axis as a small matrix, so that every size of map is served alike, also
one that is smaller than the window, and the result does not depend on a device's scatter order.
"""

from functools import reduce

import torch
from torch import Tensor

from atcon.types import LayerMaps, Maps


def blurred(maps: Maps, sigma: float) -> Maps:
    """Blur each map with a Gaussian; at the border the window is cut and rescaled.

    Args:
        maps: `[batch, *grid]`.
        sigma: Standard deviation in positions; 0 leaves the maps as they are.
    """
    if sigma == 0:
        return maps
    return _along_every_axis(maps, [_blur_matrix(maps, size, sigma) for size in maps.shape[1:]])


def local_means(maps: Maps, side: int, sigma: float) -> LayerMaps:
    """Give the Gaussian-weighted mean of every window that lies inside the map.

    Args:
        maps: `[batch, *grid]`.
        side: Of the window, in positions; it shrinks to half of an axis, but not below two.
        sigma: Standard deviation of the weights in positions.
    """
    return _along_every_axis(
        maps, [_window_matrix(maps, size, side, sigma) for size in maps.shape[1:]]
    )


def smooth_noise(white: Maps, width: float) -> Maps:
    """Blur white noise; every position stays standard normal, also at the border.

    Args:
        white: `[batch, *grid]`, independent standard normal numbers.
        width: Standard deviation of the Gaussian, as a share of each axis.
    """
    matrices = [_blur_matrix(white, size, width * size) for size in white.shape[1:]]
    return _along_every_axis(white, [rows / rows.norm(dim=1, keepdim=True) for rows in matrices])


def _along_every_axis(maps: Tensor, matrices: list[Tensor]) -> Tensor:
    """Multiply the first spatial axis by its matrix and move it to the end, once for each axis."""
    return reduce(lambda x, matrix: torch.tensordot(x, matrix, dims=([1], [1])), matrices, maps)


def _blur_matrix(like: Tensor, size: int, sigma: float) -> Tensor:
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * ((at[:, None] - at) / sigma).square())
    return weights / weights.sum(dim=1, keepdim=True)


def _window_matrix(like: Tensor, size: int, side: int, sigma: float) -> Tensor:
    side = min(side, max((size + 1) // 2, min(size, 2)))
    count = size - side + 1
    offset = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
    weights = torch.exp(-0.5 * (offset / sigma).square())
    rows = torch.arange(count, device=like.device)[:, None]
    columns = rows + torch.arange(side, device=like.device)
    matrix = like.new_zeros(count, size)
    matrix[rows, columns] = weights / weights.sum()
    return matrix
