"""Grad-CAM (Selvaraju et al., 2017), Eq. 3 of the paper."""

import torch

from atcon.attention.method import Attention
from atcon.attention.trace import Trace
from atcon.errors import InputError
from atcon.types import Classes, LayerMaps


def grad_cam_of(
    run: Trace,
    classes: Classes,
    *,
    create_graph: bool = False,
    relu: bool = False,
    pool: str = "all",
) -> LayerMaps:
    """Weight the layer's feature maps by the mean gradient of the class score: A = sum_k a_k f_k.

    Args:
        run: A forward pass traced with its layer.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.
        relu: Keep positive evidence only, as other libraries do; Eq. 3 has no ReLU.
        pool: Over what the gradient of a clip is averaged: "all", space and time (Eq. 3 as
            written), or "frame", the space of each frame (the reference code).

    Returns:
        One signed map per image at the layer's resolution, in units of the logit.

    Raises:
        InputError: The pass has no layer, the score does not depend on it, or there are no frames.
    """
    if pool not in ("all", "frame"):
        raise InputError(f"pool must be 'all' or 'frame', but it is {pool!r}")
    features, gradients = run.layer(classes, create_graph=create_graph)
    if pool == "all":
        alpha = gradients.flatten(2).mean(dim=2)
        maps = torch.einsum("bk,bk...->b...", alpha, features)
    elif features.ndim == 5:
        alpha = gradients.flatten(3).mean(dim=3)
        maps = torch.einsum("bkt,bkt...->bt...", alpha, features)
    else:
        raise InputError(
            "pool='frame' needs clips, whose layers have maps [batch, channel, time, height, "
            f"width], but this layer gave {tuple(features.shape)}: use pool='all'"
        )
    return maps.relu() if relu else maps


grad_cam = Attention(grad_cam_of, "Grad-CAM", "Selvaraju et al., 2017; Eq. 3")
