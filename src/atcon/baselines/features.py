"""What a network hands to its head: the features that LaSO and a linear probe work on."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention.borrow import borrowed
from atcon.attention.wrapped import named_layers
from atcon.errors import InputError
from atcon.types import Images

Features = Float[Tensor, "batch feature"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def head_input(model: nn.Module, head_name: str) -> Iterator[list[Tensor]]:
    """Collect the input of the head in every forward pass of the block.

    Args:
        model: Any classifier. The hook is taken off again, also after an exception.
        head_name: Of the module that makes the logits.

    Yields:
        A list that grows by one tensor, with its graph, whenever the head runs.

    Raises:
        InputError: The model has no such module.
    """
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((*inputs, *named.values())[0])

    hook = _head(model, head_name).register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def features_of(
    model: nn.Module, head_name: str, images: Images, *, gradients: bool = False
) -> Features:
    """Give what the head sees of each image, in evaluation mode; averaged over positions.

    Args:
        model: Any classifier; mode, hooks, buffers and random state are as before, also after an
            exception.
        head_name: Of the linear layer or the convolution that makes the logits.
        images: A normalised batch.
        gradients: Whether the features can be differentiated; else the backbone is a constant.

    Returns:
        `[batch, feature]`. The input of a convolutional head is averaged over its positions.

    Raises:
        InputError: There is no such module, it did not run, or its input is not one row, or one
            map, for each image.
    """
    with borrowed(model, images.device), torch.set_grad_enabled(gradients):
        with head_input(model, head_name) as seen:
            model(images.clone())  # the model may write to its input
        if not seen:
            raise InputError(f"head {head_name!r} did not run in the model's forward pass")
        features = seen[-1]
        if isinstance(_head(model, head_name), _CONVOLUTIONS) and features.ndim > 2:
            features = features.flatten(2).mean(dim=2)
    if features.ndim != 2 or len(features) != len(images):
        raise InputError(
            f"head {head_name!r} was given {tuple(features.shape)} for {len(images)} images: name "
            "the linear layer that maps one row [feature] per image to its logits"
        )
    return features


def _head(model: nn.Module, name: str) -> nn.Module:
    """Look the head up by its name.

    Raises:
        InputError: There is none; the nearest names are given.
    """
    modules = named_layers(model)
    if not name or name not in modules:
        nearest = get_close_matches(name, [known for known in modules if known], n=3, cutoff=0.0)
        raise InputError(
            f"{type(model).__name__} has no head {name!r}; the nearest are {', '.join(nearest)}"
        )
    return modules[name]
