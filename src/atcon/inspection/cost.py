"""What a step costs on this machine, beside a supervised step of the same network and batch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from atcon.attention import logits_of
from atcon.attention.borrow import borrowed
from atcon.consistency import ConsistencyLoss
from atcon.inspection.finding import Finding, counted, note, ok
from atcon.inspection.memory import Cost, cost_of
from atcon.inspection.subject import Subject

_AFFORDABLE = 1.3
"""Peak memory, in supervised steps, above which micro-batches are worth a word."""


def cost(subject: Subject) -> Iterator[Finding]:
    """Measure seconds and peak memory of a step: supervised, and of the loss in its ways."""
    if not subject.trainable:
        return
    count, (layer, _) = len(subject.images), subject.layer
    supervised = _measure(subject, partial(_supervised, subject))
    losses = {
        name: _measure(subject, partial(_loss, subject, layer, **options))
        for name, options in _ways(count).items()
        if subject.trains(detach_mask=options["detach_mask"])
    }
    measured = {"supervised": supervised, **losses}
    memory = f"{supervised.peak / 2**20:.0f} MiB beyond the weights"
    lines = [
        f"a supervised step of {counted(count, 'image')}: {supervised.seconds:.3g} s, {memory}",
        *(f"loss, {name}: {_times(taken, supervised)}" for name, taken in losses.items()),
    ]
    what = "\n".join(lines)
    values = {
        "batch": count,
        "seconds": {name: taken.seconds for name, taken in measured.items()},
        "peak_bytes": {name: taken.peak for name, taken in measured.items()},
    }
    if _micro_batches_pay(losses, supervised):
        fix = "if memory is short: ConsistencyLoss(model, micro_batch=...) gives the same loss"
        yield note(what, fix, **values)
    else:
        yield ok(what, **values)


def _ways(count: int) -> dict[str, dict[str, Any]]:
    """The ways to take the loss: the default, the dearest, and the one that saves memory."""
    size = max(count // 4, 1)
    ways: dict[str, dict[str, Any]] = {
        "mask detached (default)": {"detach_mask": True},
        "through the mask": {"detach_mask": False},
        f"through the mask, micro_batch={size}": {"detach_mask": False, "micro_batch": size},
    }
    return ways if count > 1 else dict(list(ways.items())[:2])


def _micro_batches_pay(losses: dict[str, Cost], supervised: Cost) -> bool:
    """Whether the loss takes much memory, of which micro-batches save a tenth at least."""
    peaks = [taken.peak for taken in losses.values()]
    return len(peaks) == 3 and peaks[1] > max(_AFFORDABLE * supervised.peak, peaks[2] / 0.9)


def _supervised(subject: Subject) -> None:
    """One gradient of the cross-entropy with the predicted classes, with running statistics."""
    with borrowed(subject.model, subject.images.device):
        logits = logits_of(subject.model(subject.images.clone()))
        loss = functional.cross_entropy(logits, logits.detach().argmax(dim=1))
        torch.autograd.grad(loss, list(subject.trainable.values()), allow_unused=True)


def _loss(subject: Subject, layer: str, **options: Any) -> None:
    consistency = ConsistencyLoss(subject.model, layer, **options)
    weights = list(subject.trainable.values())
    torch.autograd.grad(consistency(subject.images), weights, allow_unused=True)


def _measure(subject: Subject, call: Callable[[], None]) -> Cost:
    known = [*subject.model.parameters(), *subject.model.buffers(), subject.images]
    return cost_of(call, subject.images.device, known)


def _times(cost: Cost, supervised: Cost) -> str:
    time, memory = cost.seconds / supervised.seconds, cost.peak / max(supervised.peak, 1)
    return f"{time:.1f} times the time, {memory:.1f} times the memory"
