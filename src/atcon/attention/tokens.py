"""A layer's output as a map: convolutions, tokens of transformers and channels-last networks."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, pooling

from atcon.errors import InputError

MOST_PREFIX_TOKENS = 16
"""More tokens than this before the cells are no class, distillation and register tokens."""

Cells = tuple[int, ...]

_CHANNELS_FIRST = (
    conv._ConvNd,  # noqa: SLF001  one name for every number of axes
    batchnorm._NormBase,  # noqa: SLF001
    pooling._MaxPoolNd,  # noqa: SLF001
    pooling._AvgPoolNd,  # noqa: SLF001
    pooling._AdaptiveMaxPoolNd,  # noqa: SLF001
    pooling._AdaptiveAvgPoolNd,  # noqa: SLF001
    nn.Upsample,
)


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds its map.

    Attributes:
        kind: "channels first" `[batch, channel, *cells]`, "channels last"
            `[batch, *cells, channel]`, or "tokens" `[batch, prefix + cells, channel]`.
        cells: The size of the map.
        prefix: How many tokens come before those of the cells (class, distillation, registers).
        frames: Where a network of images looks at the frames of clips one by one, so that its batch
            is `batch * frames`: how many a clip has. Else 0.
    """

    kind: Literal["channels first", "channels last", "tokens"]
    cells: Cells
    prefix: int = 0
    frames: int = 0

    def map_in(self, output: Tensor) -> Tensor:
        """Give the map `[batch, channel, *cells]`, a view of the output.

        With `frames`, these are the first axis of the cells.
        """
        if self.frames:
            maps = replace(self, frames=0).map_in(output)
            return maps.reshape(-1, self.frames, *maps.shape[1:]).transpose(1, 2)
        if self.kind == "channels first":
            return output
        if self.kind == "channels last":
            return output.movedim(-1, 1)
        tokens = output[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], *self.cells)

    def output_of(self, maps: Tensor, output: Tensor) -> Tensor:
        """Give a new output that holds these maps, with the prefix tokens of `output`."""
        if self.frames:
            return replace(self, frames=0).output_of(maps.transpose(1, 2).flatten(0, 1), output)
        if self.kind == "channels first":
            return maps.clone()
        if self.kind == "channels last":
            return maps.movedim(1, -1).clone(memory_format=torch.contiguous_format)
        return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)


def map_layout(
    output: Tensor | None,
    images: Tensor,
    layer: nn.Module | None = None,
    grids: Sequence[Cells] = (),
) -> Layout:
    """Say how a layer's output holds its map.

    With as many dimensions as the images it is channels-first where PyTorch's own layers are
    (convolutions, BatchNorm, pooling); else whichever cells a convolution of the pass gave, or
    have the images' shape; if both fit, a layer of linear and layer normalisation modules without
    a convolution is channels-last. With three dimensions it is tokens: their cells are the largest
    grid that a convolution of the pass gave (the patch embedding's), or in a plane the one of the
    images' shape, and what is over comes first (class token, registers). Of clips
    `[batch, channel, frame, height, width]`, an output with a row for every frame is that of a
    network of images.

    Args:
        output: The layer's tensor, or None if it gave none.
        images: The batch that the model saw.
        layer: What gave it.
        grids: The cells of the convolutions of this pass so far.

    Raises:
        InputError: The output is no map of these images.
    """
    if output is not None and is_of_frames(output.shape, images):
        shape = (len(output), images.shape[1], *images.shape[3:])
        inner = map_layout(output, images.new_empty(shape, device="meta"), layer, grids)
        return replace(inner, frames=images.shape[2])
    if output is not None and output.ndim == images.ndim:
        return _channels(output, images, layer, grids)
    if output is not None and output.ndim == 3:
        cells = _cells_of_tokens(output.shape[1], tuple(images.shape[2:]), grids)
        if cells is not None:
            return Layout("tokens", cells, output.shape[1] - math.prod(cells))
    raise no_map(output, images, layer)


def is_of_frames(shape: Sequence[int], images: Tensor) -> bool:
    """Whether a layer's output is a map of images, or its tokens, for every frame of clips."""
    if images.ndim != 5 or not shape or shape[0] != len(images) * images.shape[2]:
        return False
    return len(shape) == 4 or (len(shape) == 3 and images.shape[2] > 1)


def no_map(output: Tensor | None, images: Tensor, layer: nn.Module | None) -> InputError:
    """Say that a layer's output is no map, and what to choose."""
    found = "no tensor" if output is None else f"{tuple(output.shape)}"
    name = "the layer" if layer is None else f"layer {type(layer).__name__}"
    return InputError(
        f"{name} must return a map with the batch of {len(images)} first: "
        f"[batch, channel, *grid] or [batch, *grid, channel] with {images.ndim} dimensions, or "
        f"tokens [batch, token, channel] of a grid; but it returned {found}. Choose a "
        "convolutional layer, a block of a transformer or the normalisation before its attention"
    )


def _channels(
    output: Tensor, images: Tensor, layer: nn.Module | None, grids: Sequence[Cells]
) -> Layout:
    first, last = tuple(output.shape[2:]), tuple(output.shape[1:-1])
    if _ends_channels_first(layer) or (first in grids and last not in grids):
        return Layout("channels first", first)
    grid = tuple(images.shape[2:])
    misfit = [_misfit(cells, grid) for cells in (first, last)]
    is_last = misfit[1] < misfit[0] or (misfit[1] == misfit[0] and _acts_on_the_last_axis(layer))
    is_last |= last in grids and first not in grids
    return Layout("channels last", last) if is_last else Layout("channels first", first)


def _ends_channels_first(layer: nn.Module | None) -> bool:
    """Whether what a layer gives is by definition channels-first, whatever its shape."""
    if isinstance(layer, nn.Sequential):
        keeps = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
        ends = [one for one in layer if type(one).__module__ not in keeps]
        return bool(ends) and _ends_channels_first(ends[-1])
    return isinstance(layer, _CHANNELS_FIRST)


def _misfit(cells: Cells, grid: Cells) -> tuple[bool, float]:
    """Rank cells: more than pixels along an axis is worst, then another shape of the last two."""
    ratios = [math.log(max(cell, 1) / size) for cell, size in zip(cells, grid, strict=True)][-2:]
    larger = any(cell > size for cell, size in zip(cells, grid, strict=True))
    return larger, round(max(ratios) - min(ratios), 9)


def _acts_on_the_last_axis(layer: nn.Module | None) -> bool:
    """Whether a layer is made of modules that take channels last, and of no convolution."""
    modules = [] if layer is None else list(layer.modules())
    convolves = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in modules)
    return not convolves and any(type(module) in (nn.Linear, nn.LayerNorm) for module in modules)


def _cells_of_tokens(tokens: int, grid: Cells, grids: Sequence[Cells]) -> Cells | None:
    seen = [
        cells
        for cells in grids
        if len(cells) == len(grid) and 0 <= tokens - math.prod(cells) <= MOST_PREFIX_TOKENS
    ]
    if seen:
        return max(seen, key=math.prod)
    if len(grid) != 2:
        return None
    for cells in range(tokens, max(tokens - MOST_PREFIX_TOKENS, 1) - 1, -1):
        height = round(math.sqrt(cells * grid[0] / grid[1]))
        if height and cells % height == 0 and height * grid[1] == cells // height * grid[0]:
            return height, cells // height
    return None


def unpacked(output: Any) -> tuple[Tensor | None, Callable[[Tensor], Any]]:
    """Find the map's tensor in a layer's output, and how to put another in its place.

    It is the output itself, the first tensor of a tuple or list, or of a dictionary (as Hugging
    Face's outputs are) its `last_hidden_state` or first tensor.
    """
    if isinstance(output, Tensor):
        return output, lambda tensor: tensor
    if isinstance(output, Mapping):
        keys = [key for key in output if isinstance(output[key], Tensor)]
        keys = ["last_hidden_state"] if "last_hidden_state" in keys else keys
        return (output[keys[0]], _changed_item(output, keys[0])) if keys else (None, _unchanged)
    if isinstance(output, tuple | list):
        for index, item in enumerate(output):
            if isinstance(item, Tensor):
                return item, _changed_item(output, index)
    return None, _unchanged


def _unchanged(tensor: Tensor) -> Any:
    return tensor


def _changed_item(output: Any, key: Any) -> Callable[[Tensor], Any]:
    def change(tensor: Tensor) -> Any:
        if isinstance(output, tuple):
            items = [*output[:key], tensor, *output[key + 1 :]]
            return output._make(items) if hasattr(output, "_make") else type(output)(items)
        changed: Any = copy(output)
        changed[key] = tensor
        return changed

    return change
