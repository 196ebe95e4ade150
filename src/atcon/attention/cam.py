"""CAM (Zhou et al., 2016): for networks that end in average pooling and a linear layer."""

import torch
from torch import Tensor, nn

from atcon.attention.borrow import recordable
from atcon.attention.method import Attention
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, LayerMaps

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Of the logits, relative to the terms they are summed from; float32 may be TF32 on a GPU."""


def cam_of(
    run: Trace, classes: Classes, *, create_graph: bool = False, relu: bool = False
) -> LayerMaps:
    """Weight the layer's feature maps by the head's weights: A = sum_k w_ck f_k.

    It is Z times Grad-CAM, where Z is the number of positions.

    Args:
        run: A forward pass traced with the layer whose output is pooled.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.
        relu: Keep positive evidence only.

    Returns:
        One signed map per image at the layer's resolution; its mean is the logit without the bias.

    Raises:
        InputError: The logits are no linear function of the layer's mean over positions.
    """
    features, _ = run.layer(classes, create_graph=create_graph)
    weight = in_single_precision(_head_weight(run, features))
    weight = weight if create_graph else weight.detach()
    classes = recordable(classes)
    chosen = weight[classes] if classes.ndim == 1 else classes.to(weight.dtype) @ weight
    maps = torch.einsum("bk,bk...->b...", chosen, features)
    return maps.relu() if relu else maps


def _head_weight(run: Trace, features: Tensor) -> Tensor:
    """Find `[class, channel]` of the layer that makes these logits of the pooled features."""
    pooled = features.detach().flatten(2).mean(dim=2)
    logits = run.logits.detach()
    coarsest = max(logits.dtype, run.features[0].dtype, key=lambda dtype: torch.finfo(dtype).eps)
    for module in run.model.modules():
        if not isinstance(module, _LINEAR):
            continue
        weight = module.weight.flatten(1)
        if weight.shape != (logits.shape[1], pooled.shape[1]):
            continue
        head = weight.detach().to(pooled.dtype)
        bias = head.new_zeros(len(head)) if module.bias is None else module.bias.detach().to(head)
        allowed = _TOLERANCE[coarsest] * (pooled.abs() @ head.abs().T + bias.abs())
        if ((pooled @ head.T + bias - logits.to(head)).abs() <= allowed).all():
            return weight
    raise InputError(
        f"CAM needs average pooling and one linear layer after the chosen layer, but no linear "
        f"layer of {type(run.model).__name__} gives its logits from the mean of that layer's "
        f"{pooled.shape[1]} channels: name the layer whose output is pooled, after its activation, "
        "or use grad_cam or hires_cam, which need no such head"
    )


cam = Attention(cam_of, "CAM", "Zhou et al., 2016")
