"""Shapes as types (jaxtyping) and the small records that several packages exchange."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channel *grid"]
Maps = Float[Tensor, "batch *grid"]
LayerMaps = Float[Tensor, "batch *cells"]  # beside images, whose grid is another
Logits = Float[Tensor, "batch class"]
Classes = Int[Tensor, " batch"] | Float[Tensor, "batch class"]
"""One class for each sample, or the weights with which its map explains all of them."""
Pixels = UInt8[Tensor, "channel *frames height width"]

Target = None | str | int | Tensor | Callable[[Tensor], Tensor]
"""What a map explains: the arg max, a named rule such as "positive", one index, one index or one
row of class weights per sample, or a rule on the logits that gives one of these tensors."""


class Box(NamedTuple):
    """An object's box in fractions of the image: 0 <= left < right <= 1, 0 <= top < bottom <= 1."""

    label: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Example:
    """One image of a data set, not decoded yet.

    Attributes:
        name: Unique within its data set and stable over runs.
        labels: Indices into the data set's classes, sorted, without repetition.
        boxes: For evaluation only; never seen by training.
        path: The file, or None for images that are composed at run time.
        group: Whom or what it was taken of (a patient, a street image); no group is ever in two
            parts of a split. None: a group of its own.
    """

    name: str
    labels: tuple[int, ...]
    boxes: tuple[Box, ...] = ()
    path: str | None = None
    group: str | None = None
