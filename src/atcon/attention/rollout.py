"""Attention roll-out (Abnar & Zuidema, 2020), plain and gradient-weighted (Chefer et al., 2021)."""

import torch
from torch import Tensor

from atcon.attention.method import Attention
from atcon.attention.tokens import Layout, map_layout
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, LayerMaps


def attention_rollout_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> LayerMaps:
    """Follow attention through the blocks: the product of (mean over heads + I) / 2.

    The classes only say which logits are looked at to see what the network reads, a class token or
    every token; the map itself is the same for every class.

    Args:
        run: A forward pass of a transformer whose tokens attend to all others.
        classes: One class for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One map per image at the resolution of the tokens: how much the tokens that the score
        reads, the class token or the mean of all, attend to each cell.

    Raises:
        InputError: There are no attention weights, or they are local (Swin).
    """
    weights, layout = _global_attention(run)
    steps = []
    for block in weights:
        attended = block.mean(dim=1) if create_graph else block.detach().mean(dim=1)
        if block.shape[2] == block.shape[3]:
            attended = attended + torch.eye(block.shape[2]).to(attended)
        steps.append(attended / attended.sum(dim=2, keepdim=True))
    return _followed(steps, _queries_read(run, classes, layout), layout)


def gradient_rollout_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> LayerMaps:
    """Follow what raises the class score: the product of I + mean over heads of (dy/dA * A)+.

    The identity of the whole product is left out: it is the same for every cell.

    Args:
        run: A forward pass of a transformer whose tokens attend to all others.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One map per image at the resolution of the tokens, of no unit: relevance for the tokens
        that the score reads, the class token or the mean of all.

    Raises:
        InputError: There are no attention weights, or they are local (Swin).
    """
    weights, layout = _global_attention(run)
    gradients = run.gradients(classes, run.attentions, create_graph=create_graph)
    steps = []
    for block, gradient in zip(weights, gradients, strict=True):
        attended = block if create_graph else block.detach()
        relevant = (_with_heads(gradient) * attended).clamp(min=0).mean(dim=1)
        steps.append(relevant)
    return _moved(steps, _read(gradients[-1], layout), layout)


def _global_attention(run: Trace) -> tuple[list[Tensor], Layout]:
    """Give every block's weights `[batch, head, query, key]`, and how its tokens hold a map."""
    name, batch = type(run.model).__name__, len(run.images)
    if not run.attentions:
        raise InputError(
            f"{name} showed no attention weights: roll-out explains transformers whose attention "
            "is PyTorch's or an explicit softmax; take grad_cam for other networks"
        )
    blocks = [
        in_single_precision(_with_heads(block).to(_wider(block, run.images)))
        for block in run.attentions
    ]
    tokens = reached = blocks[0].shape[-1]
    for block in blocks:
        if block.ndim != 4 or len(block) != batch or block.shape[3] != reached:
            raise InputError(
                f"{name} attends within windows, or to other tokens than the block before gave "
                f"({tuple(block.shape)}, in a batch of {batch} with {reached} tokens): roll-out "
                "needs attention between all tokens; take grad_cam"
            )
        reached = block.shape[2]
    output = torch.empty(batch, tokens, 1, device="meta")
    return blocks, map_layout(output, run.images, None, run.grids)


def _wider(block: Tensor, images: Tensor) -> torch.dtype:
    """A model may normalise in another type than its own."""
    return torch.promote_types(block.dtype, images.dtype)


def _with_heads(weights: Tensor) -> Tensor:
    return weights[:, None] if weights.ndim == 3 else weights


def _queries_read(run: Trace, classes: Classes, layout: Layout) -> Tensor:
    return _read(run.gradients(classes, run.attentions[-1:])[0], layout)


def _read(gradient: Tensor, layout: Layout) -> Tensor:
    """Say which queries of the last block the score reads: those whose attention has a gradient.

    Without any gradient, as with a new classifier of zeros, the class token if there is one.
    """
    read = _with_heads(gradient).detach().abs().amax(dim=(0, 1, 3)) > 0
    if not read.any():
        read = torch.ones_like(read)
        read[1:] = layout.prefix == 0
    return read


def _followed(steps: list[Tensor], read: Tensor, layout: Layout) -> LayerMaps:
    """Multiply the blocks, last to first, for the mean of the queries that are read."""
    relevance = _mean_of(read, steps[-1])
    for step in reversed(steps):
        relevance = relevance @ step
    return _cells(relevance, layout)


def _moved(steps: list[Tensor], read: Tensor, layout: Layout) -> LayerMaps:
    """Multiply I + block, last to first, less the identity, without losing it in rounding."""
    start = _mean_of(read, steps[-1])
    moved = torch.zeros_like(start)
    for step in reversed(steps):
        if step.shape[1] == step.shape[2]:
            moved = moved + (start + moved) @ step
        else:  # a pooling has no residual path
            moved = (start + moved) @ step
            start = torch.zeros_like(moved)
    return _cells(moved, layout)


def _mean_of(read: Tensor, last: Tensor) -> Tensor:
    return (read.to(last) / read.sum()).expand(len(last), 1, -1)


def _cells(relevance: Tensor, layout: Layout) -> LayerMaps:
    return relevance[:, 0, layout.prefix :].reshape(-1, *layout.cells)


attention_rollout = Attention(
    attention_rollout_of,
    "Attention roll-out",
    "Abnar & Zuidema, 2020",
    resolution="tokens",
    signed=False,
)

gradient_rollout = Attention(
    gradient_rollout_of,
    "Gradient roll-out",
    "Chefer et al., 2021",
    resolution="tokens",
    signed=False,
)
