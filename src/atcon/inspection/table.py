"""The table of checks, in the order in which they are run and shown."""

from collections.abc import Callable, Iterator

from atcon.inspection import activations, cost, maps, parts, passes
from atcon.inspection.finding import Finding
from atcon.inspection.subject import Subject

Looks = Callable[[Subject], Iterator[Finding]]

CHECKS: dict[str, Looks] = {
    "parallel": parts.parallel,
    "compiled": parts.compiled,
    "precision": parts.precision,
    "images": parts.images,
    "frozen": parts.frozen,
    "batch_norm": parts.batch_norm,
    "logits": passes.logits,
    "samples": passes.samples,
    "repeatable": passes.repeatable,
    "buffers": passes.buffers,
    "checkpointing": parts.checkpointing,
    "activations": activations.activations,
    "double_backward": passes.double_backward,
    "layer": maps.layer,
    "in_place": maps.in_place,
    "maps": maps.maps,
    "masks": maps.masks,
    "gradient": maps.gradient,
    "cost": cost.cost,
}
"""Every check by its name: what it finds in a network."""
