"""What can be done to a mask besides its form: smooth the map, keep a floor, vary the strength."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.consistency.masks import Mask, reference_mask, uniform_mask
from atcon.consistency.windows import blurred
from atcon.errors import InputError
from atcon.types import Maps


@dataclass(frozen=True)
class MaskOptions:
    """How a map becomes a mask, in this order; the defaults change nothing.

    Attributes:
        smooth: The map is blurred by a Gaussian of this standard deviation, in pixels.
        slope: Of the form `reference`.
        value: Of the form `uniform`.
        floor: P' = floor + (1 - floor) P: no pixel is dimmed below it.
        strength: P' = 1 - s (1 - P): a number s, or a range (low, high) from which every image
            draws its own s anew in each step.
    """

    smooth: float = 0.0
    slope: float = 8.0
    value: float = 0.5
    floor: float = 0.0
    strength: float | tuple[float, float] = 1.0

    def __post_init__(self) -> None:
        """Refuse what would not give a mask in [0, 1]."""
        low, high = self.strength_range
        for name, right, rule in (
            ("smooth", self.smooth >= 0, "0 or larger"),
            ("value", 0 <= self.value <= 1, "between 0 and 1"),
            ("floor", 0 <= self.floor <= 1, "between 0 and 1"),
            ("strength", 0 <= low <= high <= 1, "between 0 and 1, or such a range (low, high)"),
        ):
            if not right:
                raise InputError(f"mask {name} must be {rule}, but it is {getattr(self, name)}")

    @property
    def strength_range(self) -> tuple[float, float]:
        """The lowest and the highest strength."""
        if isinstance(self.strength, int | float):
            return self.strength, self.strength
        return self.strength

    @property
    def random(self) -> bool:
        """Whether the strength is drawn."""
        low, high = self.strength_range
        return low < high

    def strengths(
        self, images: Tensor, masks: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch mask"]:
        """Give every image a strength for each of its masks: drawn, or the middle of the range.

        Args:
            images: The batch, for its length and device.
            masks: How many masks each image has.
            generator: Draws; None gives the middle of the range, which evaluation uses.
        """
        low, high = self.strength_range
        shape = (len(images), masks)
        share = torch.full(shape, 0.5)
        if generator is not None:
            share = torch.rand(shape, generator=generator, device=generator.device)
        return (low + (high - low) * share).to(images.device)


def make_mask(form: Mask, options: MaskOptions) -> Mask:
    """Compose the blur, the form and the floor; with nothing to do, the form itself."""
    shaped = form
    if form is reference_mask and options.slope != MaskOptions.slope:
        shaped = partial(reference_mask, slope=options.slope)
    if form is uniform_mask and options.value != MaskOptions.value:
        shaped = partial(uniform_mask, value=options.value)
    if options.smooth == 0 and options.floor == 0:
        return shaped
    return lambda maps: with_floor(shaped(blurred(maps, options.smooth)), options.floor)


def with_floor(p: Maps, floor: float) -> Maps:
    """P' = floor + (1 - floor) P."""
    return floor + (1 - floor) * p if floor else p


def with_strength(p: Maps, strengths: Float[Tensor, " batch"]) -> Maps:
    """P' = 1 - s (1 - P), with one s for each mask."""
    strengths = strengths.to(p.dtype).reshape(-1, *(1,) * (p.ndim - 1))
    return 1 - strengths * (1 - p)
