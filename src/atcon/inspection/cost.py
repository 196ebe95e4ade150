"""What a step costs on this machine, beside a supervised step of the same network and batch."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from atcon.attention import logits_of
from atcon.attention.borrow import borrowed
from atcon.consistency import ConsistencyLoss
from atcon.inspection.finding import Finding, note, ok
from atcon.inspection.memory import Cost, cost_of
from atcon.inspection.subject import Subject

_AFFORDABLE = 1.3
"""Peak memory, in supervised steps, that a step in micro-batches should stay below."""

_WAYS = {"mask detached (default)": True, "through the mask": False}

_WORTH_IT = 0.9
"""Micro-batches that save less than a tenth are not worth a word."""


def cost(subject: Subject) -> Iterator[Finding]:
    """Measure seconds and peak memory of a step; estimate its memory in micro-batches."""
    if not subject.trainable:
        return
    supervised = _measure(subject, partial(_supervised, subject))
    measured = {"supervised": supervised}
    for name, detach in _WAYS.items():
        if subject.trains(detach_mask=detach):
            measured[name] = _measure(subject, partial(_loss, subject, detach_mask=detach))
    losses = [
        f"loss, {name}: {_times(taken, supervised)}"
        for name, taken in measured.items()
        if taken is not supervised
    ]
    yield ok(
        f"batch of {len(subject.images)}, supervised step: {supervised.seconds:.3g} s, "
        f"{_mib(supervised.peak)} beyond the weights; {'; '.join(losses)}",
        batch=len(subject.images),
        seconds={name: taken.seconds for name, taken in measured.items()},
        peak_bytes={name: taken.peak for name, taken in measured.items()},
    )
    yield from _micro_batches(subject, max(measured.values(), key=lambda c: c.peak), supervised)


def _micro_batches(subject: Subject, loss: Cost, supervised: Cost) -> Iterator[Finding]:
    """Estimate: gradients of the weights stay, the rest is in proportion to the images."""
    count = len(subject.images)
    weights = sum(p.numel() * p.element_size() for p in subject.trainable.values())
    each = max(loss.peak - weights, 0) / count
    limit = _AFFORDABLE * supervised.peak
    fitting = [size for size in range(1, count) if 2 * weights + size * each <= limit]
    size = max(fitting, default=1)
    peak = round(2 * weights + size * each)
    if loss.peak <= limit or peak > _WORTH_IT * loss.peak:
        return
    yield note(
        f"the loss needs {loss.peak / supervised.peak:.1f} times the memory of a supervised step; "
        f"in micro-batches of {size} about {_mib(peak)}, {peak / supervised.peak:.1f} times "
        "(estimate)",
        f"if memory is short: for part in images.split({size}): "
        "(consistency(part) * len(part) / len(images)).backward(), then one optimizer.step()",
        micro_batch=size,
        peak_bytes=peak,
    )


def _supervised(subject: Subject) -> None:
    """One gradient of the cross-entropy with the predicted classes, with running statistics."""
    with borrowed(subject.model, subject.images.device):
        logits = logits_of(subject.model(subject.images.clone()))
        loss = functional.cross_entropy(logits, logits.detach().argmax(dim=1))
        torch.autograd.grad(loss, list(subject.trainable.values()), allow_unused=True)


def _loss(subject: Subject, *, detach_mask: bool) -> None:
    consistency = ConsistencyLoss(subject.model, subject.layer[0], detach_mask=detach_mask)
    torch.autograd.grad(
        consistency(subject.images), list(subject.trainable.values()), allow_unused=True
    )


def _measure(subject: Subject, call: Callable[[], None]) -> Cost:
    known = [*subject.model.parameters(), *subject.model.buffers(), subject.images]
    return cost_of(call, subject.images.device, known)


def _times(cost: Cost, supervised: Cost) -> str:
    time, memory = cost.seconds / supervised.seconds, cost.peak / max(supervised.peak, 1)
    return f"{time:.1f} times the time, {memory:.1f} times the memory"


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
