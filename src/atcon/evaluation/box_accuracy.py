"""MaxBoxAccV2: how often a box around a hot region fits an object (Choe et al., CVPR 2020)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.metric import Metric, Values, Weights, checked_weights, divide

if TYPE_CHECKING:
    from atcon.types import Box

Map = Float[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]
Corners = Float[np.ndarray, "box 4"]

MAP_THRESHOLDS = tuple(at / 20 for at in range(20))
"""Where a map in [0, 1] is cut; the best one is chosen over all images."""
BOX_THRESHOLDS = (0.3, 0.5, 0.7)
"""IoU from which a box fits, averaged over."""


def box_ious(scaled: Map, boxes: Sequence["Box"], label: int) -> tuple[float, ...]:
    """IoU of the best pair of an estimated and a true box, for each of `MAP_THRESHOLDS`.

    Args:
        scaled: A map in [0, 1].
        boxes: All boxes of the image; those of class `label` count.
        label: The class.
    """
    return tuple(box_iou(scaled > threshold, boxes, label) for threshold in MAP_THRESHOLDS)


def box_iou(mask: Mask, boxes: Sequence["Box"], label: int) -> float:
    """IoU of the best pair of a true box and a box around one connected part of `mask`.

    Pixels that touch at a corner are connected. (The published code also draws boxes around holes.)

    Returns:
        0 where the mask is empty, or the image has no box of the class.
    """
    from scipy import ndimage  # noqa: PLC0415 - slow to import, few callers

    parts = ndimage.find_objects(ndimage.label(mask, structure=np.ones((3, 3)))[0])
    height, width = mask.shape
    found: Corners = np.array(
        [
            (x.start / width, y.start / height, x.stop / width, y.stop / height)
            for y, x in parts
        ]
    ).reshape(-1, 4)  # fmt: skip
    true: Corners = np.array(
        [(box.left, box.top, box.right, box.bottom) for box in boxes if box.label == label]
    ).reshape(-1, 4)
    return float(_ious(found, true).max(initial=0.0))


def max_box_accuracy(ious: ArrayLike, valid: ArrayLike) -> Metric:
    """MaxBoxAccV2: share of the valid samples whose box fits, at the best cut of the maps.

    For each of `BOX_THRESHOLDS` the cut of the maps is chosen that fits most of the samples (in
    every resample anew), and the three shares are averaged.

    Args:
        ious: What `box_ious` gave, `[sample, map threshold]`; ignored where not valid.
        valid: Which samples count.

    Returns:
        A metric that is NaN where no valid sample has weight.

    Raises:
        InputError: The shapes do not belong together.
    """
    numbers = np.asarray(ious, dtype=float)
    keep = np.array(valid, dtype=bool)  # a copy: the caller may change its own
    if numbers.ndim != 2 or keep.shape != numbers.shape[:1]:
        raise InputError(
            f"ious have shape {numbers.shape} and valid {keep.shape}: expected "
            "[sample, map threshold] and [sample]"
        )
    fits = [(keep[:, None] & (numbers >= least)).astype(float) for least in BOX_THRESHOLDS]

    def metric(weights: Weights) -> Values:
        rows = checked_weights(weights, len(keep))
        most = np.mean([(rows @ fit).max(axis=1, initial=0.0) for fit in fits], axis=0)
        return divide(most, rows @ keep.astype(float), undefined=np.nan)

    return metric


def _ious(found: Corners, true: Corners) -> Float[np.ndarray, "found true"]:
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, 2:], true[None, :, 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = [np.prod(one[:, 2:] - one[:, :2], axis=-1) for one in (found, true)]
    return divide(common, areas[0][:, None] + areas[1] - common, undefined=0.0)
