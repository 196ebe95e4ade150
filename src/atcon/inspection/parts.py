"""What can be said of a network before it runs: wrappers, types, frozen parts, BatchNorm."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from atcon.attention.wrapped import is_compiled, is_parallel
from atcon.inspection.finding import Finding, counted, error, listed, note, ok, warning
from atcon.inspection.subject import Subject

_HALF = (torch.float16, torch.bfloat16)
_SWITCHES = (
    "gradient_checkpointing",
    "grad_checkpointing",
    "use_checkpoint",
    "memory_efficient",
)
"""Attributes by which timm, Hugging Face, MONAI and torchvision switch checkpointing on."""


def parallel(subject: Subject) -> Iterator[Finding]:
    """DistributedDataParallel around the network alone gives wrong gradients."""
    if is_parallel(subject.given):
        yield error(
            f"the network is inside {type(subject.given).__name__}: the loss calls it several "
            "times and some weights get no gradient, so gradients would not be averaged rightly",
            "wrap the loss instead: DistributedDataParallel(ConsistencyLoss(model.module), "
            "find_unused_parameters=True)",
        )
    else:
        yield ok("the network is not wrapped for several processes")


def compiled(subject: Subject) -> Iterator[Finding]:
    """Compiled code has no double backward; scripted code hides its activations."""
    named = {"the network": subject.given, **dict(subject.model.named_modules())}
    named.pop("", None)
    optimised = [n for n, m in named.items() if is_compiled(m)]
    scripted = [n for n, m in named.items() if isinstance(m, torch.jit.ScriptModule)]
    if optimised:
        yield note(
            f"compiled: {listed(optimised)}. torch.compile has no double backward, so maps and "
            "the loss run the eager code; this inspection did too",
            "nothing, or give the uncompiled network to the loss and keep the compiled one for "
            "evaluation: both share their weights",
            modules=optimised,
        )
    if scripted:
        yield warning(
            f"scripted: {listed(scripted)}. The guided rule does not see the activations inside",
            "build the network from Python modules and load the same weights",
            modules=scripted,
        )
    if not optimised and not scripted:
        yield ok("no compiled and no scripted parts")


def precision(subject: Subject) -> Iterator[Finding]:
    """Weights and images of one device; weights in single precision at least."""
    tensors = [*subject.model.parameters(), *subject.model.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in floating})
    devices = sorted({str(tensor.device) for tensor in tensors})
    images = subject.images
    if len(devices) > 1:
        yield warning(
            f"the weights lie on several devices: {', '.join(devices)}",
            "maps work if the network moves its tensors itself; otherwise model.to(device)",
        )
    elif devices and devices != [str(images.device)]:
        yield error(
            f"the weights lie on {devices[0]}, the images on {images.device}",
            f"images = images.to({devices[0]!r})",
        )
    half = [name for name, p in subject.model.named_parameters() if p.dtype in _HALF]
    if half:
        yield warning(
            f"{len(half)} weights are in half precision ({', '.join(types)}): steps of 1e-5 are "
            "rounded away",
            "keep the weights in float32 and run the loss under torch.autocast",
            weights=len(half),
        )
    if not half and len(devices) <= 1:
        yield ok(f"weights in {' and '.join(types) or 'no type'} on {''.join(devices) or 'cpu'}")


def images(subject: Subject) -> Iterator[Finding]:
    """Masked pixels become zero, which is the mean colour of normalised images only."""
    values = subject.images
    low, high = float(values.min()), float(values.max())
    if not bool(torch.isfinite(values).all()):
        yield error("the images hold values that are not finite", "repair or leave out the images")
    elif low == high:
        yield warning(f"the images are constant ({low:.3g})", "inspect with images as in training")
    elif low >= 0:
        yield note(
            f"the images lie in [{low:.3g}, {high:.3g}] and are not centred: a masked pixel "
            "becomes 0, which is black and not the mean colour",
            "subtract the mean and divide by the standard deviation that the network expects",
            low=low,
            high=high,
        )
    else:
        yield ok(f"images {tuple(values.shape)}, centred, in [{low:.1f}, {high:.1f}]")


def frozen(subject: Subject) -> Iterator[Finding]:
    """Without trainable weights there is nothing to fine-tune."""
    weights = dict(subject.model.named_parameters())
    trainable = sum(p.numel() for p in subject.trainable.values())
    total = sum(p.numel() for p in weights.values())
    values = {"trainable": trainable, "total": total}
    if not trainable:
        yield error(
            f"nothing to train: {'every weight is frozen' if weights else 'there are no weights'}",
            "model.requires_grad_(True), or at least the last stage's",
            **values,
        )
        return
    fixed = [name for name, p in weights.items() if not p.requires_grad]
    if fixed:
        yield note(
            f"{len(fixed)} of {len(weights)} tensors are frozen ({listed(fixed)}): "
            f"{_millions(trainable)} of {_millions(total)} weights are trained",
            "nothing, if intended: maps and the loss pass through frozen parts",
            **values,
        )
    else:
        yield ok(f"all {_millions(total)} weights are trained", **values)


def batch_norm(subject: Subject) -> Iterator[Finding]:
    """Maps use BatchNorm's running statistics: they must exist, be finite, and have been fitted."""
    norms = {n: m for n, m in subject.model.named_modules() if isinstance(m, _BatchNorm)}
    found = [*_statistics(norms), *_settings(norms)]
    if not norms:
        found = [ok("no BatchNorm")]
    elif not found:
        found = [
            ok(f"{counted(len(norms), 'BatchNorm layer')} with running statistics, used by maps")
        ]
    yield from found


def _statistics(norms: dict[str, _BatchNorm]) -> Iterator[Finding]:
    """Look at the running statistics."""
    without = [name for name, norm in norms.items() if norm.running_mean is None]
    if without:
        yield warning(
            f"{counted(len(without), 'BatchNorm layer')} without running statistics "
            f"({listed(without)}): with the batch's, a map depends on the other images",
            "use track_running_stats=True, or GroupNorm",
            layers=without,
        )
    kept = {n: (m.running_mean, m.running_var) for n, m in norms.items() if n not in without}
    broken = [n for n, (m, v) in kept.items() if not (_finite(m) and _finite(v))]
    if broken:
        yield error(
            f"the running statistics of {listed(broken)} are not finite",
            "load an earlier checkpoint; training with half precision or a too large step does it",
            layers=broken,
        )
    untouched = [n for n, (m, v) in kept.items() if _all(m, 0) and _all(v, 1)]
    if untouched and len(untouched) == len(norms):
        yield note(
            f"all {len(untouched)} BatchNorm layers have mean 0 and variance 1: the network looks "
            "untrained, so its maps, masks and correlations below say little",
            "load weights, or train it with labels first, and check again",
            layers=untouched,
        )


def _settings(norms: dict[str, _BatchNorm]) -> Iterator[Finding]:
    """Look at how the layers are set."""
    modes = {norm.training for norm in norms.values()}
    if len(modes) > 1:
        count = sum(norm.training for norm in norms.values())
        yield note(
            f"{count} of {len(norms)} BatchNorm layers are in train mode: only those would move "
            "their statistics in a supervised step; maps and the loss move none",
            "nothing, if intended",
            train=count,
        )
    cumulative = [n for n, m in norms.items() if m.momentum is None and m.track_running_stats]
    if cumulative:
        yield note(
            f"{counted(len(cumulative), 'BatchNorm layer')} with the average of all batches "
            "(momentum=None): a supervised step moves them less and less",
            "set a momentum before training with labels; the consistency loss moves none",
            layers=cumulative,
        )
    fixed = [n for n, m in norms.items() if m.affine and not m.weight.requires_grad]
    if fixed:
        yield note(
            f"{counted(len(fixed), 'BatchNorm layer')} with frozen weights ({listed(fixed)})",
            "nothing, if intended",
            layers=fixed,
        )


def checkpointing(subject: Subject) -> Iterator[Finding]:
    """Activation checkpointing must reach the passes of the loss, which run in evaluation mode."""
    flagged = [
        name or "the network"
        for name, module in subject.model.named_modules()
        if any(getattr(module, flag, False) is True for flag in _SWITCHES)
    ]
    recomputed = subject.twice.recomputed
    if recomputed:
        yield ok(
            f"activation checkpointing: {recomputed} modules run again in the backward pass",
            recomputed=recomputed,
        )
    elif flagged:
        yield note(
            f"activation checkpointing is switched on ({listed(flagged)}), but not used in "
            "evaluation mode, in which maps and the loss run: it saves no memory there",
            "use micro-batches for the loss (see cost)",
            modules=flagged,
        )
    else:
        yield ok("no activation checkpointing")


def _finite(statistics: Tensor | None) -> bool:
    return statistics is None or bool(torch.isfinite(statistics).all())


def _all(statistics: Tensor | None, value: float) -> bool:
    return statistics is not None and bool((statistics == value).all())


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 100_000 else f"{count:,}"
