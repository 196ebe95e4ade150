"""Find the layer that Grad-CAM explains: the last convolution or the stage that ends with it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atcon.attention.borrow import borrowed
from atcon.attention.target import logits_of
from atcon.attention.wrapped import layer_name, named_layers
from atcon.errors import InputError
from atcon.types import Images

LayerKind = Literal["stage", "convolution"]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_layer(model: nn.Module, images: Images, kind: LayerKind = "stage") -> str:
    """Name the last convolution that runs, or the outermost module that ends at its resolution.

    A convolution that gives the logits is the head, not a feature layer (SqueezeNet); a
    one-position map has nothing to localise and is passed over.

    Args:
        model: Any convolutional network; left as it was.
        images: A batch of the usual size; only the first image is used.
        kind: "stage" (the reference code: the last block's output, after the residual sum and the
            activation; in a flat network the activation after the last convolution) or
            "convolution" (the paper: the last convolutional layer).

    Raises:
        InputError: The network has no convolution with more than one position.
    """
    order, shapes, classes = _run_and_record(model, images[:1].clone())
    modules = named_layers(model)
    head = _convolutional_head(order, shapes, modules, classes)
    convolutions = [
        name
        for name in order
        if isinstance(modules[name], _CONVOLUTIONS)
        and name != head
        and len(shapes[name]) == images.ndim
        and max(shapes[name][2:], default=1) > 1
    ]
    if not convolutions:
        raise InputError(
            f"{type(model).__name__} runs no convolution with more than one position: "
            "name the layer to explain"
        )
    last = convolutions[-1]
    if kind == "convolution":
        return last
    ends = [name for name in _ancestors(last) if shapes.get(name, ())[2:] == shapes[last][2:]]
    return ends[0] if ends else _end_of_flat_stage(last, order, shapes)


def resolve_layer(
    model: nn.Module, layer: str | nn.Module | None, images: Images, kind: LayerKind = "stage"
) -> tuple[str, nn.Module]:
    """Give the layer's name and module, from a name, a module of the model, or by search.

    Raises:
        InputError: No such name (the nearest are listed), or the module is not part of the model.
    """
    modules = named_layers(model)
    if layer is None:
        layer = find_layer(model, images, kind)
    if isinstance(layer, str):
        if layer not in modules or not layer:
            nearest = get_close_matches(layer, modules, n=3, cutoff=0.4)
            hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
            raise InputError(f"{type(model).__name__} has no layer {layer!r}{hint}")
        return layer, modules[layer]
    if layer is model:
        raise InputError(f"layer {type(layer).__name__} is the model itself: choose a part of it")
    for name, module in model.named_modules():
        if module is layer:
            return layer_name(name), modules[layer_name(name)]
    raise InputError(f"layer {type(layer).__name__} is not a module of {type(model).__name__}")


def _convolutional_head(
    order: list[str],
    shapes: dict[str, tuple[int, ...]],
    modules: dict[str, nn.Module],
    classes: int,
) -> str | None:
    """Name the convolution that gives the logits: the last layer with weights, one channel each."""
    weighted = [name for name in order if list(modules[name].parameters(recurse=False))]
    last = weighted[-1] if weighted else None
    if last and isinstance(modules[last], _CONVOLUTIONS) and shapes[last][1] == classes:
        return last
    return None


def _end_of_flat_stage(
    convolution: str, order: list[str], shapes: dict[str, tuple[int, ...]]
) -> str:
    """Name the last of the siblings that follow a convolution and keep its shape (VGG)."""
    end, parent = convolution, convolution.rpartition(".")[0]
    for name in order[order.index(convolution) + 1 :]:
        if name.rpartition(".")[0] != parent or shapes[name] != shapes[convolution]:
            break
        end = name
    return end


def _ancestors(name: str) -> list[str]:
    """List the enclosing modules of a name, outermost first, without the model itself."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _run_and_record(
    model: nn.Module, image: Tensor
) -> tuple[list[str], dict[str, tuple[int, ...]], int]:
    """Run once; give the modules in order of completion, their output shapes, the class count."""
    order: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}

    @contextmanager
    def recorded(name: str, module: nn.Module) -> Iterator[None]:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                order.append(name)
                shapes[name] = tuple(output.shape)

        hook = module.register_forward_hook(record)
        try:
            yield
        finally:
            hook.remove()

    with ExitStack() as stack:
        stack.enter_context(borrowed(model, image.device))
        stack.enter_context(torch.no_grad())
        for name, module in named_layers(model).items():
            if name:
                stack.enter_context(recorded(name, module))
        logits = logits_of(model(image))
    return order, shapes, logits.shape[1]
