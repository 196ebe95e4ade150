"""What a loss was made of, and signs that the consistency is trivial."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from atcon.consistency.comparison import Comparison
from atcon.consistency.correlation import pearson
from atcon.types import Maps

LOW_CONTRAST, COLLAPSED, FLAT = 0.02, 0.95, 0.99


@dataclass(frozen=True)
class ConsistencyDetails:
    """What the last loss was made of; detached.

    Attributes:
        correlation: h of each image: the mean over the pairs of maps.
        pairs: The names of the two maps of each pair.
        by_pair: h of each image and pair.
        classes: The class each image's maps explain, or the weights of all classes.
        mask_contrast: Standard deviation of each image's P, the mean over its masks; near 0, the
            mask masks nothing. NaN without masking.
        entropy: Of each image's A_1 (Grad-CAM), in [0, 1].
        between_images: Mean correlation between the A_1 of different images.
        layer: The layer that is explained; several are separated by commas.
        activations: How many activations the guided rule reached.
        logit_disagreement: KL of each image's predictions under the mask from those without; None
            unless it has a weight in the loss.
    """

    correlation: Tensor
    pairs: tuple[tuple[str, str], ...]
    by_pair: Tensor
    classes: Tensor
    mask_contrast: Tensor
    entropy: Tensor
    between_images: float
    layer: str
    activations: int
    logit_disagreement: Tensor | None = None

    @classmethod
    def of(
        cls, comparison: Comparison, layer: str, logit_disagreement: Tensor | None = None
    ) -> "ConsistencyDetails":
        """Summarise a comparison."""
        seen = comparison.detached()
        return cls(
            correlation=seen.correlation,
            pairs=tuple(pair.names for pair in seen.pairs),
            by_pair=torch.stack([pair.correlation for pair in seen.pairs], dim=1),
            classes=seen.classes,
            mask_contrast=contrast_of(seen),
            entropy=entropy(seen.first),
            between_images=float(between_images(seen.first)),
            layer=layer,
            activations=seen.activations,
            logit_disagreement=None if logit_disagreement is None else logit_disagreement.detach(),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Signs that a high consistency says little: what was seen, and what it may mean."""
        contrast, flat = float(self.mask_contrast.mean()), float(self.entropy.mean())
        found = []
        if contrast < LOW_CONTRAST:
            found.append(
                f"the masks have a contrast of {contrast:.3f}: they dim the image evenly, and any "
                "gain may be that of dimming; compare with mask='uniform', or choose 'deviation'"
            )
        if self.between_images > COLLAPSED:
            found.append(
                f"the maps of different images correlate with {self.between_images:.3f}: they have "
                "collapsed to one map, which agrees with itself whatever the image shows"
            )
        if flat > FLAT:
            found.append(
                f"the maps have an entropy of {flat:.3f}, where 1 is flat: they point at nothing"
            )
        return tuple(found)


def contrast_of(comparison: Comparison) -> Float[Tensor, " batch"]:
    """Give the contrast of each image's masks, the mean over them; NaN without masking."""
    masks = {pair.names[1]: pair.mask for pair in comparison.pairs if pair.mask is not None}
    if not masks:
        return torch.full_like(comparison.correlation.detach(), torch.nan)
    return torch.stack([mask_contrast(mask) for mask in masks.values()]).mean(dim=0)


def mask_contrast(masks: Maps) -> Float[Tensor, " batch"]:
    """Standard deviation of each P over its positions: near 0, the mask masks nothing."""
    flat = masks.flatten(1)
    return flat.std(dim=1) if len(flat) and flat.shape[1] > 1 else flat.new_zeros(len(flat))


def entropy(maps: Maps) -> Float[Tensor, " batch"]:
    """Entropy of each map, rescaled to [0, 1] and summed to one: 1 is flat, 0 is a single point."""
    flat = maps.flatten(1)
    low = flat.amin(dim=1, keepdim=True)
    span = flat.amax(dim=1, keepdim=True) - low
    flat = torch.where(span > 0, (flat - low) / torch.where(span > 0, span, 1), 1)
    share = flat / flat.sum(dim=1, keepdim=True)
    positions = max(flat.shape[1], 2)
    result: Tensor = torch.special.entr(share).sum(dim=1) / math.log(positions)
    return result


def between_images(maps: Maps) -> Float[Tensor, ""]:
    """Mean correlation between the maps of different images: near 1, the maps have collapsed."""
    count = len(maps)
    if count < 2:
        return torch.tensor(torch.nan)
    left, right = torch.triu_indices(count, count, offset=1)
    return pearson(maps[left], maps[right]).mean()
