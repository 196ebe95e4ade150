"""One forward pass that serves every gradient-based map of the same images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atcon.attention.borrow import borrowed, recordable
from atcon.attention.convolution import CONVOLUTIONS, grouped_convolution
from atcon.attention.guided import GuidedRule, guided_activation
from atcon.errors import InputError
from atcon.types import Classes, Images, Logits


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves for the maps.

    Attributes:
        images: The input, `[batch, channel, *grid]`, requiring a gradient.
        features: The target layer's output, `[batch, channel, *grid]`; None without a layer.
        logits: `[batch, class]`.
        rule: The switch of the guided rule for this pass.
    """

    images: Tensor
    features: Tensor | None
    logits: Tensor
    rule: GuidedRule


def trace(model: nn.Module, images: Images, layer: nn.Module | None = None) -> Trace:
    """Run `model` once, in evaluation mode, keeping what gradient-based maps need.

    Args:
        model: Any module that maps images to logits; left as it was.
        images: A normalised batch. If it requires a gradient its graph is kept.
        layer: The module whose output Grad-CAM weights.

    Raises:
        InputError: There are no images, the output holds no `[batch, class]` logits with a
            gradient, or the layer gives no map.
    """
    if len(images) == 0:
        raise InputError("there are no images to explain: the batch is empty")
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        kept[:] = [_feature_map(output, images)]
        return kept[0].clone()  # a later in-place operation overwrites the clone, not the map

    rule = GuidedRule()
    hook = layer.register_forward_hook(keep) if layer is not None else None
    try:
        with borrowed(model, images.device):
            images = recordable(images)
            if not images.requires_grad:
                images = images.detach().requires_grad_()
            with _Traced(rule):
                logits = logits_of(model(images.clone()))  # the model may write to its input
    finally:
        if hook is not None:
            hook.remove()
    if layer is not None and not kept:
        raise InputError(f"layer {type(layer).__name__} did not run in the model's forward pass")
    if len(logits) != len(images):
        raise InputError(f"{len(images)} images gave {len(logits)} rows of logits")
    if not logits.requires_grad:
        raise InputError(
            f"the logits of {type(model).__name__} carry no gradient to the image: "
            "remove no_grad, detach or compilation from its forward pass"
        )
    return Trace(images, kept[0] if kept else None, logits, rule)


class _Traced(TorchFunctionMode):
    """While entered, every ReLU obeys the rule and grouped convolutions differentiate fast."""

    def __init__(self, rule: GuidedRule) -> None:
        super().__init__()
        self.rule = rule

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = guided_activation(self.rule, func, args, kwargs)
        if result is None and func in CONVOLUTIONS:
            named = {("x" if key == "input" else key): value for key, value in kwargs.items()}
            result = grouped_convolution(self.rule, *args, **named)
        return func(*args, **kwargs) if result is None else result


def logits_of(output: Any) -> Logits:
    """Take the `[batch, class]` logits out of a model's output (a tensor, or its `.logits`)."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise InputError(f"the model must return logits [batch, class], but it returned {found}")
    return logits


def choose_classes(logits: Logits, target: Any = None) -> Classes:
    """Choose the class that each sample's map explains.

    Args:
        logits: `[batch, class]`.
        target: None for the top predicted class, one index, a tensor of one index per sample, or a
            callable that gives such a tensor for the logits.

    Raises:
        InputError: An index is out of range, or the tensor is not one integer per sample.
    """
    batch, count = logits.shape
    if target is None:
        return logits.detach().argmax(dim=1)
    if callable(target) and not isinstance(target, Tensor):
        target = target(logits.detach())
    if isinstance(target, int):
        target = torch.full((batch,), target)
    try:
        classes = torch.as_tensor(target).to(logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"target must be a class index, or one per sample, but it is {target!r}"
        ) from error
    if classes.shape != (batch,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise InputError(
            f"target must be one class index per sample, shape ({batch},), "
            f"but it is {tuple(classes.shape)} of {classes.dtype}"
        )
    if batch and not (int(classes.min()) >= 0 and int(classes.max()) < count):
        raise InputError(f"target {classes.tolist()} is outside the {count} classes of the model")
    return classes.long()


def selected_sum(logits: Logits, classes: Classes) -> Tensor:
    """Sum the chosen logits: samples do not interact, so its gradient is every sample's own."""
    return logits.gather(1, recordable(classes)[:, None]).sum()


def in_single_precision(maps: Tensor) -> Tensor:
    """Give maps in float32 at least: half precision is for the network, not for comparing maps."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def _feature_map(output: Any, images: Tensor) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != images.ndim:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the layer must return a map [batch, channel, *grid] with {images.ndim} dimensions, "
            f"but it returned {found}; choose a convolutional layer"
        )
    return output
