"""Averaged weights: an exponential moving average of a model's parameters and buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from atcon.errors import InputError


def decay_at(updates: int, decay: float, *, warm_up: bool = True) -> float:
    """Give the share of the old average in the next one.

    With warm-up min(decay, (1 + t) / (10 + t)) after t updates: a stage of a few dozen steps then
    averages its own last steps, where a decay of 0.999 alone would hardly leave the start. (The
    rule of TensorFlow's `ExponentialMovingAverage` with `num_updates`.) It takes the place of a
    bias correction, which an average that begins at the weights themselves does not need.
    """
    return min(decay, (1 + updates) / (10 + updates)) if warm_up else decay


class Average:
    """An exponential moving average of a model's weights: A ← d·A + (1 − d)·W after every step.

    Buffers of real numbers, such as BatchNorm's running statistics, are averaged as weights are;
    others, such as its count of batches, are copied. Weights in half precision are averaged in
    float32, where an update by a thousandth of a difference is not rounded away.

    Attributes:
        decay: d, in [0, 1).
        warm_up: Whether the first updates take a smaller d, by `decay_at`.
        updates: How many there were.
        values: The average, by the name of the parameter or buffer.
    """

    def __init__(self, model: nn.Module, decay: float, *, warm_up: bool = True) -> None:
        if not 0 <= decay < 1:
            raise InputError(
                f"decay is the share of the old average, 0 or larger and below 1, but it is {decay}"
            )
        self.decay, self.warm_up, self.updates = decay, warm_up, 0
        self.values = {name: _kept(tensor) for name, tensor in _tensors(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step; not inside of `applied`, which has put others there.

        Raises:
            InputError: Not the model that is averaged.
        """
        weights = self._tensors_of(model)
        new = 1 - decay_at(self.updates, self.decay, warm_up=self.warm_up)
        for name, average in self.values.items():
            value = weights[name].detach()
            if average.is_floating_point() or average.is_complex():
                average.lerp_(value.to(average), new)
            else:
                average.copy_(value)
        self.updates += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend the model the averaged weights; the trained ones are back, bitwise, at the end.

        Parameters and buffers stay the same tensors, so an optimiser keeps what it knows of them.

        Raises:
            InputError: Not the model that is averaged.
        """
        weights = self._tensors_of(model)
        owners = [(module, dict(module._buffers)) for module in model.modules()]  # noqa: SLF001  a buffer that forward() replaces has no public undo
        trained = {name: tensor.detach().clone() for name, tensor in weights.items()}
        try:
            _write(weights, self.values)
            yield model
        finally:
            for module, buffers in owners:
                for name in buffers:
                    module._buffers[name] = buffers[name]  # noqa: SLF001  see above
            _write(weights, trained)

    def state_dict(self) -> dict[str, Any]:
        """Give `updates` and `values`, all of it tensors, so that a file loads with weights_only.

        As a module's, it refers to the tensors that the next update changes.
        """
        return {"updates": torch.tensor(self.updates), "values": dict(self.values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved average.

        Raises:
            InputError: It is of another model.
        """
        values: Mapping[str, Tensor] = state["values"]
        _check_same(self.values, values, "the saved average")
        _write(self.values, values)
        self.updates = int(state["updates"])

    def _tensors_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Give the tensors of the model that is averaged."""
        weights = _tensors(model)
        _check_same(self.values, weights, type(model).__name__)
        return weights


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give parameters and buffers by name; what is shared has one name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _kept(tensor: Tensor) -> Tensor:
    """Copy a tensor, in float32 at least."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    copy = tensor.detach().clone()
    return copy.float() if half else copy


@torch.no_grad()
def _write(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def _check_same(mine: Mapping[str, Tensor], other: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that are not, name for name and shape for shape, those averaged."""
    wrong = [
        name
        for name in {**mine, **other}
        if name not in mine or name not in other or mine[name].shape != other[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"{what} is not what was averaged: {wrong[0]!r}{more} has another shape or is in one "
            "of the two only; make the average of the very model that trains"
        )
