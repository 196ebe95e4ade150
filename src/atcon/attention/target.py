"""What a map explains: the logits in a model's output, and the class of each sample."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention.borrow import recordable
from atcon.errors import InputError, no_such
from atcon.types import Classes, Logits

_LOGITS = ("logits", "out", "output")
"""What dictionaries call their logits."""


def logits_of(output: Any) -> Logits:
    """Take the `[batch, class]` logits out of a model's output.

    Args:
        output: A tensor, anything with `.logits`, a dictionary with "logits", "out", "output" or
            one table only, or a tuple or list that begins with any of these. The rest, such as the
            logits of auxiliary heads, is ignored.

    Raises:
        InputError: There are no logits; the message says what there is.
    """
    logits = _candidate(output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError(
            f"the model must return logits [batch, class], but it returned {_described(output)}; "
            "wrap it in a module whose forward returns the logits alone"
        )
    return logits


def _candidate(output: Any) -> Any:
    """Give what should be the logits."""
    if isinstance(output, Mapping):
        named = [output[key] for key in _LOGITS if isinstance(output.get(key), Tensor)]
        tables = [x for x in output.values() if isinstance(x, Tensor) and x.ndim == 2]
        return named[0] if named else tables[0] if len(tables) == 1 else None
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, tuple | list) and output:
        return _candidate(output[0])
    return output


def _described(output: Any) -> str:
    """Say what a model returned."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        items = ", ".join(f"{key!r}: {_described(value)}" for key, value in output.items())
        return f"{type(output).__name__} {{{items}}}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} [{', '.join(_described(value) for value in output)}]"
    return type(output).__name__


def top(logits: Logits) -> Classes:
    """Choose the class of the highest logit."""
    return logits.detach().argmax(dim=1)


def positive(logits: Logits) -> Classes:
    """Choose all classes that a multi-label model predicts (logit > 0), or the top one if none is.

    Returns:
        Weights 0 or 1, `[batch, class]`: the map explains the sum of the chosen logits.
    """
    predicted = logits.detach() > 0
    highest = nn.functional.one_hot(top(logits), logits.shape[1]).bool()
    chosen = torch.where(predicted.any(dim=1, keepdim=True), predicted, highest)
    return chosen.to(logits.dtype)


TARGETS: dict[str, Callable[[Logits], Classes]] = {"top": top, "positive": positive}
"""Every rule that chooses what a map explains, by its name."""


def choose_classes(logits: Logits, target: Any = None) -> Classes:
    """Choose what each sample's map explains.

    Args:
        logits: `[batch, class]`.
        target: None for the top predicted class, a name of `TARGETS`, one index, a tensor of one
            index per sample or of class weights `[batch, class]` (a multi-hot one, for example),
            or a callable that gives such a tensor for the logits.

    Raises:
        InputError: No such name, an index is out of range, or the tensor has another shape.
    """
    batch, count = logits.shape
    target = TARGETS["top"] if target is None else target
    if isinstance(target, str):
        target = _rule(target)
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
    if classes.shape == (batch, count) and not classes.is_complex():
        return classes.to(logits.dtype)
    if classes.shape != (batch,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise InputError(
            f"target must be one class index per sample, shape ({batch},), or class weights, "
            f"shape ({batch}, {count}), but it is {tuple(classes.shape)} of {classes.dtype}"
        )
    if batch and not (int(classes.min()) >= 0 and int(classes.max()) < count):
        raise InputError(f"target {classes.tolist()} is outside the {count} classes of the model")
    return classes.long()


def selected(logits: Logits, classes: Classes) -> Float[Tensor, " batch"]:
    """Give the logit of each sample's class, or the weighted sum of its logits."""
    classes = recordable(classes)
    if classes.ndim == 2:
        return (classes * logits).sum(dim=1)
    return logits.gather(1, classes[:, None])[:, 0]


def selected_sum(logits: Logits, classes: Classes) -> Float[Tensor, ""]:
    """Sum what was chosen: samples do not interact, so its gradient is every sample's own."""
    return selected(logits, classes).sum()


def _rule(name: str) -> Callable[[Logits], Classes]:
    if name not in TARGETS:
        raise no_such("target", name, TARGETS)
    return TARGETS[name]
