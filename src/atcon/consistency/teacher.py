"""A teacher: a second network that says what the maps and predictions of the first should be."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atcon.attention.wrapped import layer_name
from atcon.errors import InputError


class Teacher(NamedTuple):
    """The network that sees the unmasked images, and its layers that are explained, by name."""

    model: nn.Module
    layers: Mapping[str, nn.Module]


@torch.no_grad()
def update_teacher(teacher: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a teacher towards a model: W ← d W + (1 − d) W_model; buffers are copied.

    Weights in half precision round small steps away: keep such a teacher in float32, or average
    with `atcon.training.Average`. Parameters stay the same tensors.

    Args:
        teacher: A copy of the model, such as `copy.deepcopy(model)`; it is changed in place.
        model: What trains; called after each of its steps.
        decay: d in [0, 1]: 0 copies the model, 1 leaves the teacher.

    Raises:
        InputError: The decay is no share, or the teacher is no copy of the model.
    """
    if not 0 <= decay <= 1:
        raise InputError(f"decay is the share of the old teacher, in [0, 1], but it is {decay}")
    weights, buffers = _tensors(teacher.named_parameters()), _tensors(teacher.named_buffers())
    new_weights, new_buffers = _tensors(model.named_parameters()), _tensors(model.named_buffers())
    _check_same({**weights, **buffers}, {**new_weights, **new_buffers})
    for name, weight in weights.items():
        weight.lerp_(new_weights[name].to(weight), 1 - decay)
    for name, buffer in buffers.items():
        buffer.copy_(new_buffers[name])


def _tensors(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Give tensors by name, as if nothing were compiled."""
    return {layer_name(name): tensor.detach() for name, tensor in named}


def _check_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    wrong = [
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    if wrong:
        raise InputError(
            f"the teacher is no copy of the model: {wrong[0]!r} has another shape or is in one of "
            "the two only; begin with copy.deepcopy(model)"
        )
