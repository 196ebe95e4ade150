"""What Algorithm 1 finds on a batch: the maps, the masks, and how well the maps agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from atcon.types import Classes, LayerMaps, Logits, Maps


@dataclass(frozen=True)
class Pair:
    """Two maps of a batch at one resolution, and how well they agree.

    Attributes:
        names: Of A_i and A_j; with several layers as in `grad_cam@layer3`.
        first: A_i of the images.
        second: A_i of the images that A_j masked, mirrored back if they were mirrored; without
            masking, A_j.
        mask: P of A_j, at the images' resolution; None without masking.
        correlation: h(first, second), one value per image.
    """

    names: tuple[str, str]
    first: LayerMaps
    second: LayerMaps
    mask: Maps | None
    correlation: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Comparison:
    """The maps of one batch and how well they agree.

    Attributes:
        logits: `[batch, class]` of the unmasked images; of the teacher, if there is one.
        classes: What every map explains, chosen on the unmasked images.
        maps: Of the unmasked images, by name, each at its own resolution.
        pairs: Every pair A_i, A_j with i < j.
        correlation: The mean over the pairs (Eq. 1), one value per image.
        activations: How many activations the guided rule reached.
        masked_logits: Of the masked images, once for every mask; none without masking.
    """

    logits: Logits
    classes: Classes
    maps: dict[str, Tensor]
    pairs: tuple[Pair, ...]
    correlation: Float[Tensor, " batch"]
    activations: int
    masked_logits: tuple[Tensor, ...] = ()

    @property
    def first(self) -> Tensor:
        """A_1 of the images: Grad-CAM, unless other maps are compared."""
        return self.pairs[0].first

    @property
    def second(self) -> Tensor:
        """What A_1 is compared with."""
        return self.pairs[0].second

    @property
    def mask(self) -> Tensor | None:
        """P of A_2; None without masking."""
        return self.pairs[0].mask

    @property
    def finite(self) -> Bool[Tensor, " batch"]:
        """Whether all logits and maps of an image are finite numbers."""
        seconds = (pair.second for pair in self.pairs)
        found = (self.logits, *self.masked_logits, *self.maps.values(), *seconds)
        return torch.stack([values.isfinite().flatten(1).all(dim=1) for values in found]).all(dim=0)

    def detached(self) -> "Comparison":
        """Give the same values without their graph."""
        return _merged([self], lambda tensors: tensors[0].detach())

    @staticmethod
    def joined(parts: Sequence["Comparison"]) -> "Comparison":
        """Put the comparisons of parts of a batch together."""
        return parts[0] if len(parts) == 1 else _merged(parts, torch.cat)


def _merged(parts: Sequence[Comparison], merge: Callable[[list[Tensor]], Tensor]) -> Comparison:
    """Apply `merge` to every tensor of the parts."""
    pairs = []
    for same in zip(*(part.pairs for part in parts), strict=True):
        masks = [pair.mask for pair in same if pair.mask is not None]
        pairs.append(
            replace(
                same[0],
                first=merge([pair.first for pair in same]),
                second=merge([pair.second for pair in same]),
                mask=merge(masks) if masks else None,
                correlation=merge([pair.correlation for pair in same]),
            )
        )
    masked = zip(*(part.masked_logits for part in parts), strict=True)
    return replace(
        parts[0],
        logits=merge([part.logits for part in parts]),
        classes=merge([part.classes for part in parts]),
        maps={name: merge([part.maps[name] for part in parts]) for name in parts[0].maps},
        pairs=tuple(pairs),
        correlation=merge([part.correlation for part in parts]),
        masked_logits=tuple(merge(list(same)) for same in masked),
    )
