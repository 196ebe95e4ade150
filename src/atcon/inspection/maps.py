"""The layer that is explained, the maps, the masks, and the gradient of the loss."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from atcon.attention import guided_backprop
from atcon.attention.borrow import borrowed
from atcon.attention.recording import watched
from atcon.attention.tokens import Cells
from atcon.attention.wrapped import named_layers
from atcon.consistency import between_images, mask_contrast
from atcon.inspection.finding import Finding, counted, error, listed, note, ok, warning
from atcon.inspection.subject import Step, Subject

TRIVIAL = 0.02
"""Below this mask contrast the mask masks next to nothing, and the maps agree of themselves."""

COARSE = 4
"""Cells a side below which a map localises little."""


def layer(subject: Subject) -> Iterator[Finding]:
    """The explained layer must come late, and have cells enough to localise."""
    name, _ = subject.layer
    cells = tuple(subject.comparisons["default"].first.shape[1:])
    choice = "as asked for" if subject.wanted is not None else "found"
    others = [f"{other} ({_grid(grid)})" for other, grid in _stages(subject)]
    instead = f"; earlier stages: {', '.join(others)}" if others else ""
    what = f"{name}, {choice}: maps of {_grid(cells)} cells{instead}"
    values = {"layer": name, "cells": list(cells), "earlier": others}
    before, total = _place(subject, name)
    finer = f"layer={others[-1].split(' ')[0]!r}" if others else "an earlier layer"
    if min(cells[-2:]) < COARSE:
        yield warning(what, f"larger images (--size), or {finer}", **values)
    elif 2 * before < total:
        yield warning(
            f"{what}. It is an early layer: {before} of {total} layers with weights come before",
            "choose a later layer: early maps show edges rather than evidence for a class",
            **values,
        )
    else:
        yield ok(what, **values)


def in_place(subject: Subject) -> Iterator[Finding]:
    """An operation that overwrites the layer's output misleads hooks of other libraries."""
    name = subject.layer[0]
    kept: list[tuple[Tensor, Tensor]] = []

    def record(at: str, output: Any) -> None:
        if at == name and isinstance(output, Tensor):
            kept[:] = [(output, output.clone())]

    with borrowed(subject.model, subject.images.device), torch.no_grad():
        with watched(subject.model, record):
            subject.model(subject.two.clone())
        overwritten = any(not torch.equal(output, before) for output, before in kept)
    if overwritten:
        yield note(
            f"the output of {name} is overwritten by an in-place operation after it: hooks of "
            "other libraries see the wrong values; atcon keeps the right ones",
            f"nothing here; for the values after that operation, name a layer that follows {name}",
        )
    else:
        yield ok(f"nothing overwrites the output of {name}")


def maps(subject: Subject) -> Iterator[Finding]:
    """Maps must be finite, vary over the image, and differ between images."""
    comparison = subject.comparisons["default"]
    guided = guided_backprop.map(subject.run, comparison.classes)
    named = {"Grad-CAM": comparison.first, "Guided Backpropagation": guided}
    broken = [name for name, maps in named.items() if not bool(torch.isfinite(maps).all())]
    flat = [name for name, maps in named.items() if _constant(maps)]
    alike = float(between_images(comparison.first))
    if broken:
        yield error(
            f"not finite: {' and '.join(broken)}",
            "look for overflows (half precision) or a square root or logarithm of 0 on the way",
        )
    elif flat:
        yield warning(
            f"constant over the image: {' and '.join(flat)}; that adds nothing to the loss",
            "choose another layer, or look for activations that are closed everywhere",
        )
    elif alike > 0.98:
        yield note(
            f"the maps of two images correlate at {alike:.3f}: the network looks at one place, "
            "whatever the image (random weights and random images do that too)",
            "check with real images; if it stays, choose another layer",
            between_images=alike,
        )
    else:
        yield ok(
            f"finite, not constant; maps of two images correlate at {alike:.2f}",
            between_images=alike,
        )


def masks(subject: Subject) -> Iterator[Finding]:
    """A mask without contrast masks nothing, and a loss near -1 is then no evidence."""
    values = {
        preset: {
            "contrast": float(mask_contrast(comparison.mask).mean()),
            "correlation": float(comparison.correlation.mean()),
        }
        for preset, comparison in subject.comparisons.items()
        if comparison.mask is not None
    }
    trivial = [preset for preset, value in values.items() if value["contrast"] < TRIVIAL]
    what = "mask contrast and correlation of the maps before training: " + "; ".join(
        f"{preset} {value['contrast']:.3f} and {value['correlation']:.4f}"
        for preset, value in values.items()
    )
    if trivial:
        say = warning if "default" in trivial else note
        yield say(
            f"{what}. The mask hardly masks, and the maps agree anyway, with: {', '.join(trivial)}",
            "try a scale-free mask (mask='deviation'), and compare with the uniform mask: a gain "
            "that it gives too is that of dimming",
            **values,
        )
    else:
        yield ok(what, **values)


def gradient(subject: Subject) -> Iterator[Finding]:
    """The loss must give finite gradients; which weights get none matters to DDP."""
    if not subject.trainable:
        return
    yield from _judged(subject.detached, "with the mask detached (default)")
    try:
        through = subject.through
    except Exception as failure:  # the default preset needs less
        message = str(failure).strip().split("\n")[0]
        yield warning(
            f"the gradient through the mask fails: {type(failure).__name__}: {message}",
            "keep the mask detached (the default preset, or detach_mask=True)",
        )
    else:
        yield from _judged(through, "through the mask")
    without = [name for name, given in subject.detached.gradients.items() if given is None]
    if without:
        yield note(
            f"{counted(len(without), 'trainable tensor')} without a gradient from this loss: "
            f"{listed(without)}",
            "nothing on one device: the last bias never has one. On several: "
            "DistributedDataParallel(ConsistencyLoss(model), find_unused_parameters=True), or the "
            "second step fails",
            weights=without,
        )


def _judged(step: Step, how: str) -> Iterator[Finding]:
    """Say whether a gradient can be learnt from."""
    given = {name: g for name, g in step.gradients.items() if g is not None}
    broken = [name for name, g in given.items() if not bool(torch.isfinite(g).all())]
    if broken:
        yield error(
            f"{how}, the gradient of the loss is not finite at {listed(broken)}",
            "inspect in float64 (model.double()); look for operations without a second derivative",
            weights=broken,
        )
    elif not any(bool(g.any()) for g in given.values()):
        yield warning(
            f"{how}, the gradient of the loss is zero everywhere: nothing would be learnt",
            "see the findings on logits, maps and masks",
        )
    else:
        yield ok(
            f"{how}: loss {step.loss:.4f}, finite gradients at {counted(len(given), 'tensor')}",
            loss=step.loss,
        )


def _stages(subject: Subject) -> list[tuple[str, Cells]]:
    """The last module of each finer resolution before the layer, outermost first, at most three."""
    name, cells, order = subject.layer[0], subject.passed.cells, subject.passed.order
    before = order[: order.index(name)] if name in order else ()
    skipped = {cells.get(name), tuple(subject.two.shape[2:])}
    found: dict[Cells, str] = {}
    for other in before:
        grid = cells.get(other, ())
        if grid in skipped or max(grid, default=1) <= 1 or not _shrunk_evenly(grid, subject):
            continue
        if grid not in found or other.count(".") <= found[grid].count("."):
            found[grid] = other
    return [(other, grid) for grid, other in found.items()][-3:]


def _shrunk_evenly(grid: Cells, subject: Subject) -> bool:
    """Whether height and width shrank alike: heads and features of an attention did not."""
    shrunk = [
        pixels / cells for pixels, cells in zip(subject.two.shape[-2:], grid[-2:], strict=True)
    ]
    return max(shrunk) <= 1.5 * min(shrunk)


def _place(subject: Subject, name: str) -> tuple[int, int]:
    """How many layers with weights run up to the end of `name`, and how many there are."""
    modules = named_layers(subject.model)
    order = subject.passed.order
    weighted = [bool(list(modules[n].parameters(recurse=False))) for n in order]
    end = len(order) - order[::-1].index(name) if name in order else len(order)
    return sum(weighted[:end]), sum(weighted)


def _constant(maps: Tensor) -> bool:
    flat = maps.flatten(1)
    return bool(((flat.amax(dim=1) - flat.amin(dim=1)) <= 1e-12 * flat.abs().amax(dim=1)).any())


def _grid(cells: Cells) -> str:
    return "x".join(map(str, cells))
