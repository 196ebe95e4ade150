"""Find the block of a transformer whose cells the class score still reads."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from atcon.attention.recording import Recording
from atcon.attention.tokens import map_layout, unpacked
from atcon.attention.trace import trace
from atcon.errors import InputError


def blocks_among(names: Sequence[str], seen: Recording) -> list[str]:
    """Name the blocks with tokens or channels-last maps of several cells, in the order they end.

    A block has parts of its own and is a member of a chain or list of modules; where nothing is so
    built, the outermost modules with parts are blocks.

    Args:
        names: Of the modules to look at, in the order they end.
        seen: A forward pass.
    """
    composed = [name for name in names if list(seen.modules[name].children())]
    composed = [name for name in composed if _has_cells(name, seen)]
    chained = [
        name
        for name in composed
        if isinstance(seen.modules[name.rpartition(".")[0]], nn.Sequential | nn.ModuleList)
    ]
    outermost = [
        name for name in composed if not any(name.startswith(f"{outer}.") for outer in composed)
    ]
    return chained or outermost


def last_read(blocks: Sequence[str], seen: Recording) -> str:
    """Name the last block, or normalisation in a block, of which a cell changes the class scores.

    Raises:
        InputError: There is none.
    """
    for block in reversed(blocks):
        norms = [
            name
            for name in seen.order
            if name.startswith(f"{block}.")
            and "Norm" in type(seen.modules[name]).__name__
            and seen.shapes[name] == seen.shapes[block]
        ]
        candidates = [block, *reversed(norms)]
        for name, read in zip(candidates, _are_read(candidates, seen), strict=True):
            if read:
                return name
    raise InputError(
        f"no cell of a block of {type(seen.model).__name__} changes the class scores: "
        "name the layer to explain"
    )


def _has_cells(name: str, seen: Recording) -> bool:
    grids = [seen.shapes[other][2:] for other in seen.order if _convolves(seen.modules[other])]
    output = torch.empty(seen.shapes[name], device="meta")
    try:
        layout = map_layout(output, seen.image, seen.modules[name], grids)
    except InputError:
        return False
    one = len(output) == max(layout.frames, 1)
    return one and layout.kind != "channels first" and math.prod(layout.cells) > 1


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _are_read(names: Sequence[str], seen: Recording) -> list[bool]:
    """Say of which layers a cell has a gradient.

    Of the logits, or of what the classifier takes in: a new one may have no weights but zeros.
    """
    layers = [seen.modules[name] for name in names]
    with _input_of(seen.modules[seen.classifier or ""]) as taken:
        run = trace(seen.model, seen.image, layers)
    for score in (run.logits, *taken):
        with run.rule.taking_a_map():
            found: Sequence[Tensor | None] = torch.autograd.grad(
                score,
                [output.raw for output in run.outputs],
                torch.linspace(1, 2, score.numel()).to(score).view_as(score),
                retain_graph=True,
                allow_unused=True,
            )
        read = [
            gradient is not None and bool(output.layout.map_in(gradient).any())
            for output, gradient in zip(run.outputs, found, strict=True)
        ]
        if any(read):
            return read
    return [False] * len(names)


@contextmanager
def _input_of(module: nn.Module) -> Iterator[list[Tensor]]:
    taken: list[Tensor] = []

    def take(_module: nn.Module, inputs: Any) -> None:
        tensor, _ = unpacked(inputs)
        taken[:] = [] if tensor is None or not tensor.requires_grad else [tensor]

    hook = module.register_forward_pre_hook(take)
    try:
        yield taken
    finally:
        hook.remove()
