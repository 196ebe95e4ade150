"""The consistency loss (Eq. 2) for any training loop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import LayerKind, resolve_layer
from atcon.consistency.compare import Comparison, between_images, compare, entropy, mask_contrast
from atcon.consistency.correlation import CORRELATIONS, Correlation
from atcon.consistency.masks import MASKS, Mask
from atcon.errors import InputError
from atcon.types import Images, Target


@dataclass(frozen=True)
class Preset:
    """The choices that the paper and its code leave open, as one name."""

    mask: str
    correlation: str = "pearson"
    detach_mask: bool = False
    squash: bool = False
    layer: LayerKind = "stage"


PRESETS: dict[str, Preset] = {
    "default": Preset(mask="reference", detach_mask=True),
    "paper": Preset(mask="variance", layer="convolution"),
    "reference": Preset(mask="reference", squash=True),
}
"""Every preset by its name; docs/deviations.md says where they differ and why."""


@dataclass(frozen=True)
class ConsistencyDetails:
    """What the last loss was made of; detached.

    Attributes:
        correlation: h(A_1, A_2) of each image.
        classes: The class each image's maps explain.
        mask_contrast: Standard deviation of each image's P; near 0, the mask masks nothing.
        entropy: Of each image's Grad-CAM, in [0, 1].
        between_images: Mean correlation between the Grad-CAM maps of different images.
        layer: The layer that Grad-CAM explains.
        activations: How many activations the guided rule reached.
    """

    correlation: Tensor
    classes: Tensor
    mask_contrast: Tensor
    entropy: Tensor
    between_images: float
    layer: str
    activations: int

    @classmethod
    def of(cls, comparison: Comparison, layer: str) -> "ConsistencyDetails":
        """Summarise a comparison."""
        first = comparison.first.detach()
        return cls(
            correlation=comparison.correlation.detach(),
            classes=comparison.classes,
            mask_contrast=mask_contrast(comparison.mask.detach()),
            entropy=entropy(first),
            between_images=float(between_images(first)),
            layer=layer,
            activations=comparison.activations,
        )


class ConsistencyLoss(nn.Module):
    """L_A = -mean over the batch of h(A_1, A_2) (Eqs. 1 and 2, Algorithm 1); lower is better.

    The model is evaluated with its running BatchNorm statistics and without dropout, and is left
    as it was. Needs no labels::

        consistency = ConsistencyLoss(model)
        for images in loader:
            optimizer.zero_grad()
            consistency(images).backward()
            optimizer.step()
    """

    details: ConsistencyDetails | None = None
    """Of the last call; None before the first."""

    def __init__(
        self,
        model: nn.Module,
        layer: str | nn.Module | None = None,
        *,
        preset: str = "default",
        mask: str | Mask | None = None,
        correlation: str | Correlation | None = None,
        detach_mask: bool | None = None,
        target: Target = None,
    ) -> None:
        """Choose what is compared; a keyword overrides the preset.

        Args:
            model: Any convolutional network with ReLUs.
            layer: Name or module that Grad-CAM explains; None finds it on the first batch.
            preset: A name of `PRESETS`.
            mask: A name of `MASKS`, or a function from maps to masks in (0, 1).
            correlation: A name of `CORRELATIONS`, or a function of two maps.
            detach_mask: Whether the mask is a constant for the gradient (2.33 instead of 3.0
                supervised steps, at the floor).
            target: The class to explain; None for the top predicted one.

        Raises:
            InputError: A name is in no table; the nearest is given.
        """
        super().__init__()
        chosen: Preset = _named("preset", preset, PRESETS)
        if detach_mask is not None:
            chosen = replace(chosen, detach_mask=detach_mask)
        self.model = model
        self.preset = chosen
        self.mask: Mask = _named("mask", mask or chosen.mask, MASKS)
        self.correlation: Correlation = _named(
            "correlation", correlation or chosen.correlation, CORRELATIONS
        )
        self.target = target
        self._layer = layer
        self.layer_name: str | None = None

    def forward(self, images: Images) -> Float[Tensor, ""]:
        """Give the loss of a normalised batch and keep its `details`."""
        comparison = self.compare(images, create_graph=True)
        self.details = ConsistencyDetails.of(comparison, self.layer_name or "")
        return -comparison.correlation.mean()

    def compare(self, images: Images, *, create_graph: bool = False) -> Comparison:
        """Give the maps and their agreement; without a graph unless asked for one."""
        self.layer_name, layer = resolve_layer(
            self.model, self.layer_name or self._layer, images, self.preset.layer
        )
        return compare(
            self.model,
            images,
            layer,
            self.mask,
            correlation=self.correlation,
            detach_mask=self.preset.detach_mask,
            squash=self.preset.squash,
            target=self.target,
            create_graph=create_graph,
        )


def _named(kind: str, choice: Any, table: Mapping[str, Any]) -> Any:
    """Look a name up in its table; anything that is not a name is itself the choice."""
    if not isinstance(choice, str):
        return choice
    if choice not in table:
        nearest = get_close_matches(choice, table, n=1, cutoff=0.0)[0]
        raise InputError(f"no {kind} {choice!r}: did you mean {nearest!r}? ({', '.join(table)})")
    return table[choice]
