"""Does a map lie on its object? Overlap, energy and peak, with trivial maps as a floor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.box_accuracy import MAP_THRESHOLDS, box_iou, box_ious

if TYPE_CHECKING:
    from atcon.types import Box

Map = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True, slots=True)
class Localisation:
    """How well one map lies on the boxes of its class, as fractions.

    Attributes:
        iou: By the rule of the paper.
        iou_reference: By the rule of the authors' published code.
        epg: Share of the map's energy inside the boxes.
        pointing: Whether its peak lies inside the boxes: 0 or 1, or the share of equal peaks.
        box_ious: IoU of the best box around a part of the map, for each of `MAP_THRESHOLDS`.
    """

    iou: float
    iou_reference: float
    epg: float
    pointing: float
    box_ious: tuple[float, ...]


def localise(
    attention: ArrayLike, boxes: Sequence["Box"], label: int, *, size: int
) -> Localisation | None:
    """Compare one map with the boxes of one class on a grid of `size` x `size` pixels.

    Args:
        attention: The map of that class, `[h, w]` of any size, any scale.
        boxes: All boxes of the image.
        label: The class.
        size: Side of the grid, normally the network's input size.

    Returns:
        None if the image has no box of that class.
    """
    if all(box.label != label for box in boxes):
        return None
    truth = box_mask(boxes, label, size, size)
    scaled = rescale(resize(attention, size, size))
    return Localisation(
        iou=iou(IOU_RULES["paper"](scaled), truth),
        iou_reference=iou(IOU_RULES["reference"](scaled), truth),
        epg=energy_inside(scaled, truth),
        pointing=pointing(scaled, truth),
        box_ious=box_ious(scaled, boxes, label),
    )


def floors(boxes: Sequence["Box"], label: int, *, size: int) -> dict[str, Localisation] | None:
    """What each of `TRIVIAL_MAPS` earns on this image; None if it has no box of that class."""
    if all(box.label != label for box in boxes):
        return None
    truth = box_mask(boxes, label, size, size)
    found = {}
    for name, make in TRIVIAL_MAPS.items():
        mask = make(size)
        scaled, overlap = mask.astype(float), iou(mask, truth)
        found[name] = Localisation(
            iou=overlap,
            iou_reference=overlap,
            epg=energy_inside(scaled, truth),
            pointing=pointing(scaled, truth),
            box_ious=(box_iou(mask, boxes, label),) * len(MAP_THRESHOLDS),
        )
    return found


def resize(attention: ArrayLike, height: int, width: int) -> Map:
    """Bilinear, as `torch.nn.functional.interpolate(align_corners=False)` without antialiasing."""
    columns = _interpolate(_checked_map(attention), width)
    return _interpolate(columns.T, height).T


def rescale(attention: ArrayLike) -> Map:
    """Min-max to [0, 1]; a constant map points nowhere and becomes zero."""
    values = _checked_map(attention)
    shifted = values - values.min()
    top = shifted.max()
    return np.asarray(shifted / top if top > 0 else shifted)


def box_mask(boxes: Sequence["Box"], label: int, height: int, width: int) -> Mask:
    """Pixels whose centre lies in a box of class `label`: the union of its boxes."""
    rows = ((np.arange(height) + 0.5) / height)[:, None]
    columns = (np.arange(width) + 0.5) / width
    mask = np.zeros((height, width), dtype=bool)
    for box in boxes:
        if box.label == label:
            mask |= (
                (box.top <= rows)
                & (rows < box.bottom)
                & (box.left <= columns)
                & (columns < box.right)
            )
    return mask


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 0 if both masks are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def energy_inside(scaled: Map, mask: Mask) -> float:
    """Share of a non-negative map's sum that lies in `mask` (energy-based pointing game).

    A zero map gets 0.
    """
    total = float(scaled.sum())
    return float(scaled[mask].sum()) / total if total > 0 else 0.0


def pointing(scaled: Map, mask: Mask) -> float:
    """Whether the peak of a map lies in `mask` (pointing game); of equal peaks the share.

    No pixel beside the mask counts (Zhang et al., 2018, allow 15), and a constant map, which is all
    peak, gets the share of the image that the mask covers.
    """
    peaks = scaled == scaled.max()
    return float(mask[peaks].mean())


def paper_rule(scaled: Map) -> Mask:
    """Half of the range of the map (the paper's Table 3)."""
    return np.asarray(scaled > 0.5)


def reference_rule(scaled: Map) -> Mask:
    """Threshold of the authors' published code, relative to the median, mean and deviation.

    It turns on 40-50 % of most maps, and the whole image for a single peak or a constant map: read
    it beside the floors.
    """
    median, mean = float(np.median(scaled)), float(scaled.mean())
    limit = min(0.25 + 0.5 * median, 0.5 * (median + mean) + float(scaled.std()) - 0.25)
    return np.asarray(scaled > limit)


def whole_image(size: int) -> Mask:
    """Every pixel."""
    return np.ones((size, size), dtype=bool)


def centre_box(size: int, area: float = 0.45) -> Mask:
    """A centred square that covers `area` of the image."""
    near = np.abs((np.arange(size) + 0.5) / size - 0.5) < np.sqrt(area) / 2
    return np.asarray(near[:, None] & near)


IOU_RULES: dict[str, Callable[[Map], Mask]] = {
    "paper": paper_rule,
    "reference": reference_rule,
}
"""From a map in [0, 1] to the pixels that count as attended."""

TRIVIAL_MAPS: dict[str, Callable[[int], Mask]] = {
    "whole_image": whole_image,
    "centre_box": centre_box,
}
"""Maps that never look at the image: what an attention map has to beat."""


def _interpolate(values: Map, target: int) -> Map:
    """Linear along the last axis, between pixel centres; a constant map stays exactly constant."""
    source = values.shape[1]
    position = np.maximum((np.arange(target) + 0.5) * source / target - 0.5, 0.0)
    left = position.astype(int)
    right = np.minimum(left + 1, source - 1)
    near = values[:, left]
    return np.asarray(near + (position - left) * (values[:, right] - near))


def _checked_map(attention: ArrayLike) -> Map:
    values = np.asarray(attention, dtype=float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(
            f"an attention map must be [height, width] and finite, got shape {values.shape}"
        )
    return values
