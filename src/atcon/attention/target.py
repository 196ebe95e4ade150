"""What a map explains: the logits in a model's output, and the class of each sample."""

from typing import Any

import torch
from torch import Tensor

from atcon.attention.borrow import recordable
from atcon.errors import InputError
from atcon.types import Classes, Logits


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
