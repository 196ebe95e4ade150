"""The padding of a network's convolutions, switched: the reference code reflects at every border.

Where PyTorch pads by anything but zeros, a convolution is two operations: `functional.pad`, and a
convolution without padding. Maps and their gradients follow both.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from atcon.attention.borrow import borrowed
from atcon.errors import InputError, no_such
from atcon.types import Images

Padding = Literal["zeros", "reflect", "replicate", "circular"]

PADDINGS: dict[str, dict[int, Padding]] = {
    "zeros": dict.fromkeys((1, 2, 3), "zeros"),
    "reflect": dict.fromkeys((1, 2, 3), "reflect"),
    "replicate": dict.fromkeys((1, 2, 3), "replicate"),
    "circular": dict.fromkeys((1, 2, 3), "circular"),
    "reference": {1: "reflect", 2: "reflect", 3: "replicate"},
}
"""What convolutions of one, two and three axes pad with, by the name of the choice; `reference` is
that of the authors' code: reflection, and replication for video."""

_KINDS: dict[int, type[Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class _Before(NamedTuple):
    """How a convolution padded."""

    name: str
    convolution: Any
    mode: str
    amounts: list[int]


@contextmanager
def padding_mode(model: nn.Module, mode: str) -> Iterator[nn.Module]:
    """Borrow a model whose convolutions pad by `mode`; at the end they pad as they did.

    Weights, buffers, hooks and modules are not touched. Checkpoints do not say how a network pads:
    whoever loads its weights has to switch again.

    Args:
        model: Any module.
        mode: A name of `PADDINGS`.

    Raises:
        InputError: As `set_padding`.
    """
    before = _switch(model, mode)
    try:
        yield model
    finally:
        for _, convolution, old, amounts in before:
            convolution.padding_mode = old
            convolution._reversed_padding_repeated_twice = amounts  # noqa: SLF001  see `_amounts`


def set_padding(model: nn.Module, mode: str) -> tuple[str, ...]:
    """Let every convolution that pads do it by `mode` from now on, as much as it did.

    Convolutions that do not pad, and transposed ones, which cannot but pad zeros, stay. A border
    can be reflected only if the input is larger than the padding (`check_padding`).

    Args:
        model: Any module; changed.
        mode: A name of `PADDINGS`.

    Returns:
        The names of the convolutions that pad.

    Raises:
        InputError: No such mode, or a convolution pads by code of its own, which does not ask for
            a mode; then nothing has been changed.
    """
    return tuple(before.name for before in _switch(model, mode))


def check_padding(model: nn.Module, images: Images) -> None:
    """Run one image through a model whose padding is switched, and say where it cannot pad.

    A border of n positions can be reflected if the input has more than n along that axis, and
    wrapped around if it has n; PyTorch otherwise fails inside the network. A border can be
    replicated always. Small images in deep networks are what fails: a ResNet has a last map of one
    position for images of 32 pixels.

    Args:
        model: Left as it was.
        images: A normalised batch; its first image is used.

    Raises:
        InputError: A convolution's input is too small; its name and sizes are given.
    """
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                hook = module.register_forward_pre_hook(
                    lambda module, inputs, name=name: _check_input(name, module, inputs[0])
                )
                stack.callback(hook.remove)
        stack.enter_context(borrowed(model, images.device))
        stack.enter_context(torch.no_grad())
        model(images[:1].clone())


def _check_input(name: str, convolution: Any, x: Tensor) -> None:
    mode = convolution.padding_mode
    spared = {"reflect": 1, "circular": 0}.get(mode)
    if spared is None:
        return
    amounts, axes = _amounts(convolution), len(convolution.kernel_size)
    needed = [max(amounts[2 * at : 2 * at + 2]) for at in reversed(range(axes))]
    if any(n and n + spared > size for n, size in zip(needed, x.shape[-axes:], strict=True)):
        raise InputError(
            f"convolution {name!r} pads by {tuple(needed)} positions ({mode}), but its input has "
            f"only {tuple(x.shape[-axes:])}: use larger images, or padding 'replicate'"
        )


def _switch(model: nn.Module, mode: str) -> list[_Before]:
    """Switch the convolutions that pad; give how they did before."""
    if mode not in PADDINGS:
        raise no_such("padding", mode, PADDINGS)
    before = []
    for name, module in model.named_modules():
        axes = next((n for n, kind in _KINDS.items() if isinstance(module, kind)), None)
        if axes is None or (max(module.kernel_size) == 1 and not any(_amounts(module))):
            continue
        _check_kind(name, module, _KINDS[axes])
        if any(_amounts(module)):
            amounts = module._reversed_padding_repeated_twice  # noqa: SLF001  see `_amounts`
            before.append(_Before(name, module, module.padding_mode, amounts))
    for _, convolution, _, _ in before:
        convolution.padding_mode = PADDINGS[mode][len(convolution.kernel_size)]
        convolution._reversed_padding_repeated_twice = _amounts(convolution)  # noqa: SLF001  see there
    return before


def _check_kind(name: str, module: Any, kind: Any) -> None:
    """Refuse a convolution whose class has a forward pass of its own."""
    cls = type(module)
    if cls.forward is not kind.forward or cls._conv_forward is not kind._conv_forward:  # noqa: SLF001  what reads the mode
        raise InputError(
            f"convolution {name!r} is a {cls.__name__}, which pads by its own code: its padding "
            "cannot be switched; leave the network's padding as it is"
        )


def _amounts(convolution: Any) -> list[int]:
    """Give how much is padded before and after each axis, the last axis first.

    PyTorch works this out when a convolution is made and reads it only if it pads by other than
    zeros. Networks that change `padding` afterwards (dilated backbones) leave it wrong.
    """
    kernel, padding = convolution.kernel_size, convolution.padding
    axes = range(len(kernel))
    if padding == "same":
        totals = [convolution.dilation[at] * (kernel[at] - 1) for at in axes]
        sides = [(total // 2, total - total // 2) for total in totals]
    elif isinstance(padding, int):
        sides = [(padding, padding) for _ in axes]
    else:
        sides = [(0, 0) if padding == "valid" else (padding[at], padding[at]) for at in axes]
    return [amount for side in reversed(sides) for amount in side]
