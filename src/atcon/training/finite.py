"""Values that are no finite numbers end a training before they are learnt, kept or saved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from atcon.errors import AtconError
from atcon.training.steps import Batch, Outcome, Step

_OVERFLOWS = 24
"""After so many halvings no scale is to blame: it begins at 2 to the 16."""


def check_loss(outcome: Outcome, step: Step, batch: Batch) -> None:
    """See that the loss of a step is a finite number.

    Raises:
        AtconError: It is not; the images that it comes from are named.
    """
    value = outcome.loss.detach()
    if not bool(torch.isfinite(value)):
        raise _ended(f"the loss became {float(value)}", step, batch, outcome, ())


class GradientCheck:
    """Sees that the gradients of every step are finite numbers, whose squares can be added up.

    A finite loss may have a gradient that is not: of a value that overflows, or of an infinite
    pixel that an activation cuts off.

    Args:
        scaled: Whether the precision scales the loss (float16). Then a gradient may overflow, and
            the backend leaves the step out and scales by half; but not many steps in a row.
    """

    def __init__(self, *, scaled: bool) -> None:
        self._allowed = _OVERFLOWS if scaled else 0
        self._in_a_row = 0

    def check(self, weights: Sequence[Tensor], step: Step, batch: Batch, outcome: Outcome) -> None:
        """Look at the gradients of a step.

        Args:
            weights: Where the gradients are, after `backward`.
            step: What was done.
            batch: The images that it was done with.
            outcome: What it gave.

        Raises:
            AtconError: One is not finite; the images that it comes from are named.
        """
        norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        self._in_a_row = 0 if bool(torch.isfinite(norm)) else self._in_a_row + 1
        if self._in_a_row > self._allowed:
            often = f" for the {self._in_a_row}th step in a row" if self._allowed else ""
            what = f"the gradient became {float(norm)}{often}"
            raise _ended(what, step, batch, outcome, weights)


def check_values(values: Mapping[str, Any], when: str) -> None:
    """See that what will be saved holds finite numbers only.

    Args:
        values: A state, which may be nested.
        when: For the error.

    Raises:
        AtconError: A tensor of it does not; it is named.
    """
    for name, tensor in _tensors(values):
        if not bool(torch.isfinite(tensor).all()):
            raise AtconError(
                f"{name} holds values that are not finite {when}, so nothing of it is saved: lower "
                "the learning rate; what was saved before is intact"
            )


def _tensors(values: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Walk the tensors of real numbers with their names, joined by dots."""
    for key, value in values.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _tensors(value, f"{name}.")
        elif isinstance(value, Tensor) and value.is_floating_point():
            yield name, value


def _ended(
    what: str, step: Step, batch: Batch, outcome: Outcome, weights: Sequence[Tensor]
) -> AtconError:
    found = _sources(step, batch, weights)
    names = found or (*batch.names, *outcome.beside)
    return AtconError(
        f"{what} on {', '.join(names)}: lower the learning rate, or look at "
        f"{'this image' if len(names) == 1 else 'these images'}; the step was not taken, and the "
        "last saved epoch is intact, from which --resume goes on once the cause is gone"
    )


def _sources(step: Step, batch: Batch, weights: Sequence[Tensor]) -> tuple[str, ...]:
    """Find the images that alone are to blame; none where that cannot be said."""
    ones = [_one(batch, index) for index in range(len(batch.names))]
    broken = [one for one in ones if not bool(torch.isfinite(one.images).all())]
    if not broken:
        broken = [one for one in ones if _fails(step, one, weights)]
        broken = broken if len(broken) < len(ones) else []
    return tuple(name for one in broken for name in one.names)


def _one(batch: Batch, index: int) -> Batch:
    """Give the batch of one of the images; every field but the share has an entry for each."""
    part = slice(index, index + 1)
    of_images = {
        field.name: getattr(batch, field.name)
        for field in fields(batch)
        if field.name != "share" and getattr(batch, field.name) is not None
    }
    return replace(batch, **{name: values[part] for name, values in of_images.items()})


def _fails(step: Step, one: Batch, weights: Sequence[Tensor]) -> bool:
    """Whether a step on this image alone has a loss, or a gradient, that is not finite."""
    try:
        loss = step(one).loss
        if not weights:
            return not bool(torch.isfinite(loss.detach()))
        found = torch.autograd.grad(loss, list(weights), allow_unused=True)
    except Exception:
        return False
    gradients = [gradient for gradient in found if gradient is not None]
    return not bool(torch.isfinite(get_total_norm(gradients)))
