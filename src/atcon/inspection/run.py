"""Inspect a network before it is trained: what would go wrong, and how to fix it."""

import re
import warnings
from dataclasses import replace

from torch import Tensor, nn

from atcon.attention.borrow import with_gradients
from atcon.errors import AtconError, InputError
from atcon.inspection.finding import Check, Finding, error
from atcon.inspection.subject import Subject
from atcon.inspection.table import CHECKS
from atcon.types import Images

_FIXES = (
    (r"channels|size of tensor a", "give images with the channels that the first layer takes"),
    (r"mat1 and mat2|shape '.*' is invalid|Wrong image|Kernel size|Output size is too small",
     "give images of the size that the network was built for"),
    (r"out of memory", "inspect and train with a smaller batch, or smaller images"),
    (r"same device|Input type .* and weight type|same dtype|scalar type",
     "move the network and the images to one device and one type"),
    (r"use_reentrant=True", "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"),
    (r"not implemented",
     "call the loss under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"),
)  # fmt: skip
"""What to do about errors of PyTorch, by their words."""

_OWN = "the message says what to change"
_OTHER = "run model(images) by itself; if that works, this is a defect of atcon: please report it"


def check(
    model: nn.Module,
    images: Images,
    *,
    layer: str | nn.Module | None = None,
    cost: bool = True,
) -> Check:
    """Inspect a network on a batch, before training; the network is left as it was.

    Args:
        model: Any network.
        images: A normalised batch, `[batch, channel, *grid]`, of the size that training will use;
            all of it serves the cost, two images the rest.
        layer: The layer to explain: a name or a module; None finds it.
        cost: Whether seconds and memory of a step are measured, which takes about twenty
            supervised steps.

    Returns:
        The findings and a verdict. Nothing that is wrong with the network raises an error.

    Raises:
        InputError: `images` is no batch of images.
    """
    _require_batch(images)
    seen: set[str] = set()
    findings: list[Finding] = []
    skipped: list[str] = []
    with with_gradients():
        subject = Subject(model, images, layer)
        for name in CHECKS:
            if name == "cost" and not cost:
                continue
            found = _look(name, subject, seen)
            findings += found or ()
            if found is None:
                skipped.append(name)
    return Check(_described(model, images), tuple(findings), tuple(skipped))


def _look(name: str, subject: Subject, seen: set[str]) -> list[Finding] | None:
    """Run one check; None if what it needs has failed before, and was reported."""
    found: list[Finding] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of passes that the user did not ask for
            found.extend(replace(finding, name=name) for finding in CHECKS[name](subject))
    except Exception as failure:
        said = failed(failure)
        if said.what in seen:
            return found or None
        seen.add(said.what)
        found.append(replace(said, name=name))
    return found


def failed(failure: Exception) -> Finding:
    """Turn an exception into a finding."""
    message = str(failure).strip().split("\n")[0] or "no message"
    if isinstance(failure, AtconError):
        return error(message, _OWN)
    fix = next((fix for words, fix in _FIXES if re.search(words, message)), _OTHER)
    return error(f"{type(failure).__name__}: {message}", fix)


def _require_batch(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.ndim < 3 or not images.numel():
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a batch [batch, channel, *grid], but it is {found}")
    if not images.is_floating_point():
        raise InputError(
            f"images must be normalised numbers, but they are {images.dtype}: divide by 255, "
            "subtract the mean, divide by the standard deviation"
        )


def _described(model: nn.Module, images: Tensor) -> str:
    shape = "x".join(map(str, images.shape))
    return f"{type(model).__name__}: images {shape}, {images.dtype}, {images.device}"
