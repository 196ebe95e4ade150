"""Guided Backpropagation (Springenberg et al., 2015), Eq. 5 of the paper."""

import torch
from torch import nn

from atcon.attention.borrow import with_gradients
from atcon.attention.trace import Trace, choose_classes, in_single_precision, selected_sum, trace
from atcon.errors import InputError
from atcon.types import Classes, Images, Maps, Target


def guided_backprop(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    create_graph: bool = False,
) -> Maps:
    """Gradient of the class score at the input, where ReLUs pass positive gradients only.

    Args:
        model: Any network with ReLU or ReLU6 activations (functional, in-place, shared, modules).
        images: A normalised batch, `[batch, channel, *grid]`.
        target: The class to explain: None (top predicted), an index, one per sample, or a callable.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One map per image at the input's resolution: the sum over channels of absolute values, in
        units of the logit per unit of input.

    Raises:
        InputError: No activation could be guided; a plain gradient is never returned in its place.
    """
    run = trace(model, images)
    return guided_backprop_of(run, choose_classes(run.logits, target), create_graph=create_graph)


@with_gradients()
def guided_backprop_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> Maps:
    """Guided Backpropagation of a traced forward pass (Eq. 5)."""
    if run.rule.guided == 0:
        raise InputError(
            "Guided Backpropagation found no ReLU or ReLU6 to guide: the result would be the plain "
            "gradient. Networks with other activations, or compiled or scripted ones, need "
            "another map"
        )
    with run.rule.switched_on():
        (gradient,) = torch.autograd.grad(
            selected_sum(run.logits, classes),
            run.images,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
        )
    if gradient is None:
        raise InputError("the class score does not depend on the images")
    maps = gradient.abs().sum(dim=1)
    return in_single_precision(maps)


def count_guided(model: nn.Module, images: Images) -> int:
    """Count the activations that the guided rule reaches in one forward pass."""
    return trace(model, images[:1]).rule.guided
