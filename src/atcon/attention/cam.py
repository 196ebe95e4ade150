"""CAM (Zhou et al., 2016): for networks that end in average pooling and a linear layer."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

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


class _Head(NamedTuple):
    """A linear layer that may give the logits."""

    weight: Tensor
    bias: Tensor | None

    def gives(self, logits: Tensor, pooled: Tensor, tolerance: float) -> bool:
        """Say whether these are its outputs for pooled features `[batch, channel]`."""
        weight = self.weight.detach().to(pooled)
        if pooled.shape[1] != weight.shape[1]:
            return False
        bias = weight.new_zeros(len(weight)) if self.bias is None else self.bias.detach().to(weight)
        allowed = tolerance * (pooled.abs() @ weight.abs().T + bias.abs())
        return bool(((pooled @ weight.T + bias - logits.to(weight)).abs() <= allowed).all())


def _head_weight(run: Trace, features: Tensor) -> Tensor:
    """Find `[class, channel]` of the layer that makes these logits of the pooled features."""
    logits = run.logits.detach()
    for head in _heads(run):
        if head.gives(logits, _pooled(features.detach()), _tolerance(logits, run.features[0])):
            return head.weight
    found = _pooled_layer(run)
    advice = (
        f"choose layer={found!r}, whose output is pooled"
        if found
        else "no module's output is pooled for one; use grad_cam or hires_cam, which need no such "
        "head"
    )
    raise InputError(
        "CAM needs average pooling and one linear layer after the chosen layer, but no linear "
        f"layer of {type(run.model).__name__} gives its logits from the mean of that layer's "
        f"{features.shape[1]} channels: {advice}"
    )


def _pooled_layer(run: Trace) -> str | None:
    """Name the last module with several positions whose mean over them a linear layer reads."""
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in run.model.named_modules():
            keep = partial(_keep, outputs, name)
            stack.callback(module.register_forward_hook(keep).remove)
        logits = run.score(run.images[:1].detach())
    heads = list(_heads(run))
    for name, output in reversed(outputs.items()):
        if not name or output.ndim != run.images.ndim or output[0, 0].numel() == 1:
            continue
        tolerance = _tolerance(logits, output)
        for features in (output, output.movedim(-1, 1)):
            pooled = _pooled(in_single_precision(features))
            if any(head.gives(logits, pooled, tolerance) for head in heads):
                return name
    return None


def _keep(outputs: dict[str, Tensor], name: str, _module: Any, _inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor):
        outputs[name] = output.clone()  # before an in-place operation overwrites it


def _heads(run: Trace) -> Iterator[_Head]:
    for module in run.model.modules():
        if isinstance(module, _LINEAR) and len(module.weight) == run.logits.shape[1]:
            yield _Head(module.weight.flatten(1), module.bias)


def _pooled(features: Tensor) -> Tensor:
    return features.flatten(2).mean(dim=2)


def _tolerance(*tensors: Tensor) -> float:
    """Allow for the rounding of the coarsest type."""
    return max(_TOLERANCE[tensor.dtype] for tensor in tensors)


cam = Attention(cam_of, "CAM", "Zhou et al., 2016")
