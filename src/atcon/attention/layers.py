"""Find the layer to explain: the last convolution, the stage that ends with it, or a block."""

from difflib import get_close_matches
from typing import Literal

from torch import nn

from atcon.attention.blocks import blocks_among, last_read
from atcon.attention.recording import Recording, record
from atcon.attention.wrapped import layer_name, named_layers
from atcon.errors import InputError
from atcon.types import Images

LayerKind = Literal["stage", "convolution"]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_layer(model: nn.Module, images: Images, kind: LayerKind = "stage") -> str:
    """Name the last convolution that runs, or the outermost module that ends at its resolution.

    A convolution that gives the logits is the head, not a feature layer (SqueezeNet); a
    one-position map has nothing to localise and is passed over, as are convolutions inside a block
    that ends with one. Where blocks of a transformer follow the last convolution, the last block
    whose cells the class score reads is taken, of either kind; if only a class token is read, the
    normalisation before the last attention, which is the last to see every cell.

    Args:
        model: Any convolutional network or transformer; left as it was.
        images: A batch of the usual size; only the first image is used.
        kind: "stage" (the reference code: the last block's output, after the residual sum and the
            activation; in a flat network the activation after the last convolution) or
            "convolution" (the paper: the last convolutional layer).

    Raises:
        InputError: The network has no convolution with more than one position.
    """
    seen = record(model, images[:1])
    head = _convolutional_head(seen)
    convolutions = [
        name
        for name in seen.order
        if isinstance(seen.modules[name], _CONVOLUTIONS)
        and name != head
        and seen.is_map(name)
        and max(seen.shapes[name][2:], default=1) > 1
    ]
    if not convolutions:
        raise InputError(
            f"{type(model).__name__} runs no convolution with more than one position: "
            "name the layer to explain"
        )
    whole = [name for name in convolutions if not _in_a_shrinking_block(name, seen)]
    last = (whole or convolutions)[-1]
    cells = seen.shapes[last][2:]
    ends = [name for name in _ancestors(last) if seen.shapes.get(name, ())[2:] == cells]
    stage = ends[0] if ends else _end_of_flat_stage(last, seen)
    blocks = blocks_among(seen.after(stage), seen)
    if blocks:
        return last_read(blocks, seen)
    return last if kind == "convolution" else stage


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


def _convolutional_head(seen: Recording) -> str | None:
    """Name the convolution that gives the logits: the last layer with weights, one channel each."""
    last = seen.classifier
    if last and isinstance(seen.modules[last], _CONVOLUTIONS):
        return last if seen.shapes[last][1] == seen.classes else None
    return None


def _end_of_flat_stage(convolution: str, seen: Recording) -> str:
    """Name the last of the siblings that follow a convolution and keep its shape (VGG)."""
    end, parent = convolution, convolution.rpartition(".")[0]
    for name in seen.after(convolution):
        if name.rpartition(".")[0] != parent or seen.shapes[name] != seen.shapes[convolution]:
            break
        end = name
    return end


def _in_a_shrinking_block(convolution: str, seen: Recording) -> bool:
    """Whether a block around it, that is no mere chain, ends with a map of one position."""
    ends = [
        seen.shapes[name]
        for name in _ancestors(convolution)
        if name in seen.shapes and not isinstance(seen.modules[name], nn.Sequential)
    ]
    axes = len(seen.shapes[convolution])
    return any(len(shape) == axes and max(shape[2:]) == 1 for shape in ends)


def _ancestors(name: str) -> list[str]:
    """List the enclosing modules of a name, outermost first, without the model itself."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]
