"""Explain a batch of images by any map of the table."""

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor, nn

from atcon.attention.method import Attention
from atcon.attention.table import ATTENTION
from atcon.errors import no_such
from atcon.types import Images, Target


def attention_named(name: str) -> Attention:
    """Look a map up in the table.

    Raises:
        InputError: There is none of that name; the nearest is given.
    """
    if name not in ATTENTION:
        raise no_such("attention map", name, ATTENTION)
    return ATTENTION[name]


@overload
def explain(
    model: nn.Module,
    images: Images,
    name: str = ...,
    target: Target = ...,
    *,
    layer: str | nn.Module | None = ...,
    create_graph: bool = ...,
    **options: Any,
) -> Tensor: ...


@overload
def explain(
    model: nn.Module,
    images: Images,
    name: str = ...,
    target: Target = ...,
    *,
    layer: Sequence[str | nn.Module],
    create_graph: bool = ...,
    **options: Any,
) -> list[Tensor]: ...


def explain(
    model: nn.Module,
    images: Images,
    name: str = "grad_cam",
    target: Target = None,
    *,
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    create_graph: bool = False,
    **options: Any,
) -> Tensor | list[Tensor]:
    """Give an attention map of every image: A = g(f, x).

    Args:
        model: Any network; evaluated with its running BatchNorm statistics and left as it was.
        images: A normalised batch, `[batch, channel, *grid]`.
        name: A name of `atcon.attention.ATTENTION`.
        target: The class to explain: None (top predicted), a name of `atcon.attention.TARGETS`, an
            index, one per sample, class weights `[batch, class]`, or a callable on the logits.
        layer: For maps of a layer: its name or module; None finds the last convolutional stage;
            a list gives a list of maps.
        create_graph: Whether the map can be differentiated with respect to the weights.
        options: Of the map; its function documents them.

    Returns:
        Maps `[batch, *cells]` at the layer's resolution, or `[batch, *grid]` at the input's.

    Raises:
        InputError: No such map, option, layer or class, or the network does not allow the map.
    """
    chosen = attention_named(name)
    return chosen(model, images, target, layer=layer, create_graph=create_graph, **options)
