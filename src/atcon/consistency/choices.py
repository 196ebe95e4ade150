"""Everything that Algorithm 1 leaves open: as names in a preset, and looked up in the tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from torch import Tensor

from atcon.attention import Attention, LayerKind, attention_named
from atcon.consistency.correlation import CORRELATIONS, Correlation
from atcon.consistency.mask_options import MaskOptions, at_progress
from atcon.consistency.masks import MASKS, Mask
from atcon.consistency.matching import MATCHINGS, Matching
from atcon.errors import InputError, no_such

MAPS = ("grad_cam", "guided_backprop")
"""A_1 and A_2 of the paper."""


@dataclass(frozen=True)
class Preset:
    """The choices that the paper and its code leave open; a name, or the thing itself.

    Attributes:
        mask: The form of P.
        correlation: h.
        detach_mask: Whether P is a constant for the gradient.
        squash: Whether maps are standardised and squashed before they are correlated.
        layer: Which layer is explained if none is named.
        maps: A_1, A_2, ...; None for those of the matching, or the paper's.
        matching: How maps of different resolution are compared.
        mask_options: What is done to the mask besides its form.
        mirror: Whether the second pass sees the masked images mirrored along their last axis.
        logit_weight: Of the disagreement of the predictions on the masked and unmasked images in
            the loss; 0 leaves it out.
    """

    mask: str | Mask
    correlation: str | Correlation = "pearson"
    detach_mask: bool = False
    squash: bool = False
    layer: LayerKind = "stage"
    maps: tuple[str | Attention, ...] | None = None
    matching: str | Matching = "mask"
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    mirror: bool = False
    logit_weight: float = 0.0


PRESETS: dict[str, Preset] = {
    "default": Preset(mask="reference", detach_mask=True),
    "paper": Preset(mask="variance", layer="convolution"),
    "reference": Preset(mask="reference", squash=True),
}
"""Every preset by its name; docs/deviations.md says where they differ and why."""


@dataclass(frozen=True)
class Method:
    """A preset looked up in the tables: what `compare` runs.

    Attributes:
        maps: A_1, A_2, ... with their names.
        matching: How they are brought to one resolution.
        mask: From a map to P, before its options.
        correlation: h.
        detach_mask: Whether P is a constant for the gradient.
        squash: Whether maps are standardised and squashed before they are correlated.
        batch_statistics: Whether BatchNorm uses the statistics of the batch.
        mask_options: What is done to P besides its form: at the end of the training, as evaluation
            sees it; the loss puts in those of its progress.
        mirror: Whether the second pass sees the masked images mirrored along their last axis.
    """

    maps: tuple[tuple[str, Attention], ...]
    matching: Matching
    mask: Mask
    correlation: Correlation
    detach_mask: bool = False
    squash: bool = False
    batch_statistics: bool = False
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    mirror: bool = False

    @property
    def masks(self) -> int:
        """How many masks an image gets."""
        return len(self.maps) - 1 if self.matching.by == "mask" else 0

    def taught(self) -> "Method":
        """Give the same with masks of a teacher, which are constants.

        Raises:
            InputError: Nothing is masked, so there is no pass for the model beside its teacher's.
        """
        check_masked("a teacher", self.matching)
        return replace(self, detach_mask=True)

    def seen(self, tensor: Tensor) -> Tensor:
        """Give images as the second pass sees them, or its maps as they lie on the images."""
        return tensor.flip(-1) if self.mirror else tensor


def method_of(preset: Preset, *, batch_statistics: bool = False) -> Method:
    """Look the choices up.

    Raises:
        InputError: A name is in no table (the nearest is given), or the choices exclude each other.
    """
    matching: Matching = named("matching", preset.matching, MATCHINGS)
    maps = preset.maps or matching.maps or MAPS
    if matching.maps and tuple(maps) != matching.maps:
        raise InputError(
            f"matching {preset.matching!r} compares {' with '.join(matching.maps)}: for other maps "
            f"choose matching {matching.by!r}"
        )
    if len(maps) < 2:
        raise InputError("consistency is between maps: give two or more, as in maps=('a', 'b')")
    if not 0 <= preset.logit_weight < inf:
        raise InputError(f"logit_weight must be 0 or larger, but it is {preset.logit_weight}")
    if preset.mirror:
        check_masked("mirror", matching)
    if preset.logit_weight:
        check_masked("logit_weight", matching)
    return Method(
        maps=tuple(_map_named(choice) for choice in maps),
        matching=matching,
        mask=named("mask", preset.mask, MASKS),
        correlation=named("correlation", preset.correlation, CORRELATIONS),
        detach_mask=preset.detach_mask,
        squash=preset.squash,
        batch_statistics=batch_statistics,
        mask_options=at_progress(preset.mask_options, 1.0),
        mirror=preset.mirror,
    )


def check_masked(what: str, matching: Matching) -> None:
    """Refuse a choice about the pass on the masked images where there is none.

    Raises:
        InputError: The matching compares maps of the same images.
    """
    if matching.by != "mask":
        raise InputError(
            f"{what} is about the pass on the masked images, but matching by {matching.by!r} makes "
            "none: choose matching 'mask'"
        )


def named(kind: str, choice: Any, table: Mapping[str, Any]) -> Any:
    """Look a name up in its table; anything that is not a name is itself the choice."""
    if not isinstance(choice, str):
        return choice
    if choice not in table:
        raise no_such(kind, choice, table)
    return table[choice]


def _map_named(choice: str | Attention) -> tuple[str, Attention]:
    return (choice, attention_named(choice)) if isinstance(choice, str) else (choice.title, choice)
