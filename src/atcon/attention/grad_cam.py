"""Grad-CAM (Selvaraju et al., 2017), Eq. 3 of the paper."""

import torch
from torch import nn

from atcon.attention.borrow import with_gradients
from atcon.attention.layers import resolve_layer
from atcon.attention.trace import Trace, choose_classes, in_single_precision, selected_sum, trace
from atcon.errors import InputError
from atcon.types import Classes, Images, LayerMaps, Target


@with_gradients()
def grad_cam(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    layer: str | nn.Module | None = None,
    create_graph: bool = False,
    relu: bool = False,
) -> LayerMaps:
    """Weight the layer's feature maps by the mean gradient of the class score: A = sum_k a_k f_k.

    Args:
        model: Any network; evaluated with its running BatchNorm statistics and left as it was.
        images: A normalised batch, `[batch, channel, *grid]`.
        target: The class to explain: None (top predicted), an index, one per sample, or a callable.
        layer: Name or module; None finds the last convolutional stage.
        create_graph: Whether the map can be differentiated with respect to the weights.
        relu: Keep positive evidence only, as other libraries do; Eq. 3 has no ReLU.

    Returns:
        One signed map per image at the layer's resolution, in units of the logit.

    Raises:
        InputError: No such layer or class, or the score does not depend on the layer.
    """
    _, module = resolve_layer(model, layer, images)
    run = trace(model, images, module)
    maps = grad_cam_of(run, choose_classes(run.logits, target), create_graph=create_graph)
    return maps.relu() if relu else maps


@with_gradients()
def grad_cam_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> LayerMaps:
    """Grad-CAM of a forward pass that was traced with its layer (Eq. 3)."""
    if run.features is None:
        raise InputError("Grad-CAM needs a layer: trace the model with one")
    (gradient,) = torch.autograd.grad(
        selected_sum(run.logits, classes),
        run.features,
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    if gradient is None:
        raise InputError("the class score does not depend on the chosen layer")
    features = run.features if create_graph else run.features.detach()
    alpha = gradient.flatten(2).mean(dim=2)
    maps = torch.einsum("bk,bk...->b...", alpha, features)
    return in_single_precision(maps)
