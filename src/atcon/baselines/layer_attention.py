"""Layer attention consistency (Wang et al., "Sharpen Focus", ICCV 2019): a baseline of table 2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import Trace, resolve_layer, trace, without_autocast
from atcon.attention.borrow import recordable, with_gradients
from atcon.attention.trace import in_single_precision
from atcon.attention.wrapped import check_synchronised
from atcon.baselines.inner_layer import inner_and_last
from atcon.consistency import mask_contrast
from atcon.consistency.matching import upsampled
from atcon.errors import InputError
from atcon.training import Batch, Outcome, Step
from atcon.types import Classes, Images, Logits, Maps


@with_gradients()
def layer_attention_maps(
    run: Trace, classes: Classes, *, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Give A = ReLU(sum_k GAP(ReLU(dy_c/dF_k)) F_k) at every layer of a pass.

    Unlike Grad-CAM (Eq. 3) it drops negative gradients before they are averaged, and negative
    evidence after.

    Args:
        run: A forward pass traced with its layers.
        classes: The class to explain, one for each image.
        create_graph: Whether the maps can be differentiated with respect to the weights.

    Returns:
        One map `[batch, *cells]` for each layer, 0 or larger, in units of the logit.

    Raises:
        InputError: The score does not depend on a layer.
    """
    maps = []
    with without_autocast(run.images.device):
        gradients = run.gradients(classes, run.features, create_graph=create_graph)
        for kept, gradient in zip(run.features, gradients, strict=True):
            features = in_single_precision(kept if create_graph else kept.detach())
            weights = in_single_precision(gradient).relu().flatten(2).mean(dim=2)
            maps.append(torch.einsum("bk,bk...->b...", weights, features).relu())
    return tuple(maps)


def soft_mask(maps: Maps, *, omega: float = 100.0, threshold: float = 0.55) -> Maps:
    """Give M = logistic(omega (A - threshold max A)): near 1 where the last layer has its evidence.

    Map and threshold are both in units of the logit: to scale the logits by s is to scale omega by
    s, while where M > 1/2 stays. (A map rescaled to [0, 1] must not meet the threshold of the raw
    one, as in re-implementations.)
    """
    peak = maps.flatten(1).amax(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    return torch.sigmoid(omega * (maps - threshold * peak))


def attention_consistency(
    inner: Maps, mask: Maps, *, margin: float = 0.8
) -> Float[Tensor, " batch"]:
    """Give L_AC = margin - sum(A_inner M) / sum A_inner for each image; lower is better.

    It lies in [margin - 1, margin]. A map without evidence has no share inside the mask: its value
    is `margin`, and its gradient 0.
    """
    return margin - _share(inner * mask, inner)


def attention_separability(true: Maps, confusing: Maps, mask: Maps) -> Float[Tensor, " batch"]:
    """Give L_AS = 2 sum(min(A_T, A_conf) M) / sum(A_T + A_conf) for each image; lower is better.

    It lies in [0, 1]. Where neither map has evidence nothing overlaps: value and gradient are 0.
    """
    return 2 * _share(torch.minimum(true, confusing) * mask, true + confusing)


def true_and_confusing(logits: Logits, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Choose T and conf of each image.

    Args:
        logits: `[batch, class]`.
        labels: `[batch, class]`, 0 or 1; several in a row where data are multi-label.

    Returns:
        T, the label of the highest score, or without a label the top predicted class; conf, the
        highest of the classes that are no label (the arg max if it is wrong, else the best wrong
        one); and whether there are both, without which there is nothing to separate.
    """
    scores, chosen = logits.detach(), labels.bool()
    labelled = chosen.any(dim=1)
    among_labels = scores.masked_fill(~chosen, -math.inf).argmax(dim=1)
    true = torch.where(labelled, among_labels, scores.argmax(dim=1))
    confusing = scores.masked_fill(chosen, -math.inf).argmax(dim=1)
    return true, confusing, labelled & ~chosen.all(dim=1)


@dataclass(frozen=True)
class LayerAttentionDetails:
    """What the last loss was made of; detached, one value per image.

    Attributes:
        consistency: L_AC.
        separability: L_AS at the inner and at the last layer, `[batch, 2]`; None if it is no part
            of the loss. 0 where there is nothing to separate.
        classes: What A_inner and A_last explain.
        confusing: The class that is separated from it, -1 where there is none; None as above.
        mask_contrast: Standard deviation of M at the last layer; near 0, it masks nothing.
        evidence: Whether A_inner and A_last are anywhere above 0, `[batch, 2]`.
        layers: The inner and the last layer.
    """

    consistency: Tensor
    separability: Tensor | None
    classes: Tensor
    confusing: Tensor | None
    mask_contrast: Tensor
    evidence: Tensor
    layers: tuple[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Signs that the loss trains nothing: what was seen, and what to do."""
        return tuple(
            f"no image of the batch has positive evidence at {layer}, so its map is 0 everywhere "
            "and gives no gradient: a convolution may be negative before its activation; name a "
            "layer after it, such as the block that it ends"
            for layer, found in zip(self.layers, self.evidence.any(dim=0).tolist(), strict=True)
            if not found
        )


class LayerAttentionLoss(nn.Module):
    """L_AC, the evidence of an inner layer outside of the last layer's; with L_AS, the full method.

    As in `ConsistencyLoss` the model is evaluated with its running BatchNorm statistics and without
    dropout, is left as it was, and the gradient flows through every map and through M. M is that of
    the last layer in all terms, interpolated linearly to the inner one.

    Alone it is the fine-tuning step of table 2 and needs no labels. The full method is the sum of
    the supervised loss and of this one with `separability=True`, which `sum_of` makes of steps;
    so is the combination with the attention consistency of this paper::

        sum_of(supervised_step(supervised), layer_attention_step(full, full))
        sum_of(consistency_step(ours, ours), layer_attention_step(layers, layers))
    """

    details: LayerAttentionDetails | None = None
    """Of the last call; None before the first."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str | nn.Module] | None = None,
        *,
        separability: bool = False,
        omega: float = 100.0,
        threshold: float = 0.55,
        margin: float = 0.8,
    ) -> None:
        """Choose the layers and the terms.

        Args:
            model: Any network with two layers whose outputs are maps.
            layers: Names or modules, the inner one first; None finds them on the first batch.
            separability: Whether L_AS of both layers is added; needs labels.
            omega: Steepness of M, per unit of the logit.
            threshold: Where M is 1/2, as a fraction of the largest value of A_last.
            margin: What is taken from; it moves the value, not the gradient.

        Raises:
            InputError: There are not two layers, or a number is out of range.
        """
        super().__init__()
        if layers is not None and (isinstance(layers, str | nn.Module) or len(layers) != 2):
            raise InputError(
                f"layers must be two, the inner one and the last one, but it is {layers!r}"
            )
        if omega <= 0 or not 0 < threshold < 1:
            raise InputError(
                f"omega must be above 0 and threshold between 0 and 1, but they are {omega} and "
                f"{threshold}"
            )
        self.model = model
        self.separability = separability
        self.omega, self.threshold, self.margin = omega, threshold, margin
        self._wanted = None if layers is None else tuple(layers)

    def forward(self, images: Images, labels: Tensor | None = None) -> Float[Tensor, ""]:
        """Give the mean loss of a normalised batch and keep its `details`.

        Args:
            images: `[batch, channel, *grid]`.
            labels: `[batch, class]`, 0 or 1. With them the maps explain the label of the highest
                score, without them (or in a row without any) the top predicted class.

        Raises:
            InputError: Labels are missing or have another form, or there are no two layers.
        """
        weights = any(weight.requires_grad for weight in self.model.parameters())
        graph = torch.is_grad_enabled() and (weights or images.requires_grad)
        if graph:
            check_synchronised(self, first=self.details is None)
        with with_gradients():
            return self._loss(recordable(images), labels, create_graph=graph)

    def _loss(self, images: Tensor, labels: Tensor | None, *, create_graph: bool) -> Tensor:
        layers = self._layers(images)
        run = trace(self.model, images, [*layers.values()])
        labels = self._checked(labels, run.logits)
        classes, other, both = true_and_confusing(run.logits, labels)
        inner, last = layer_attention_maps(run, classes, create_graph=create_graph)
        others = (
            layer_attention_maps(run, other, create_graph=create_graph)
            if self.separability
            else None
        )
        with without_autocast(images.device):
            mask = soft_mask(last, omega=self.omega, threshold=self.threshold)
            at_inner = upsampled(mask, tuple(inner.shape[1:]))
            agreement = attention_consistency(inner, at_inner, margin=self.margin)
            overlap = None
            if others:
                pairs = ((inner, others[0], at_inner), (last, others[1], mask))
                both_layers = torch.stack([attention_separability(*pair) for pair in pairs], dim=1)
                overlap = torch.where(both[:, None], both_layers, 0)
        self.details = LayerAttentionDetails(
            consistency=agreement.detach(),
            separability=None if overlap is None else overlap.detach(),
            classes=classes,
            confusing=torch.where(both, other, -1) if self.separability else None,
            mask_contrast=mask_contrast(mask.detach()),
            evidence=torch.stack([maps.flatten(1).any(dim=1) for maps in (inner, last)], dim=1),
            layers=(next(iter(layers)), next(reversed(layers))),
        )
        return (agreement if overlap is None else agreement + overlap.sum(dim=1)).mean()

    def _layers(self, images: Tensor) -> dict[str, nn.Module]:
        """Find the two layers; they are kept by name once they are found."""
        wanted = self._wanted or inner_and_last(self.model, images)
        layers = dict(resolve_layer(self.model, one, images) for one in wanted)
        if len(layers) != 2:
            raise InputError(f"the inner and the last layer are the same: {', '.join(layers)}")
        self._wanted = tuple(layers)
        return layers

    def _checked(self, labels: Tensor | None, logits: Tensor) -> Tensor:
        """Give labels of the logits' shape; none at all are a table of zeros."""
        if labels is None:
            if self.separability:
                raise InputError(
                    "separability=True separates the labels' maps from those of other classes: "
                    "call the loss with images and labels"
                )
            return torch.zeros_like(logits, dtype=torch.bool)
        if labels.shape != logits.shape or not bool(((labels == 0) | (labels == 1)).all()):
            raise InputError(
                f"labels must be a table of 0 and 1, one row per image and one column per class, "
                f"{tuple(logits.shape)}, but they are {tuple(labels.shape)} of {labels.dtype}; "
                "torch.nn.functional.one_hot makes one of class indices"
            )
        return labels.to(logits.device)


def layer_attention_step(loss: nn.Module, details: LayerAttentionLoss) -> Step:
    """A step on the layers' maps; `loss` is `details`, possibly wrapped by Fabric.

    Labels are used for separability only: the fine-tuning step explains the top predicted class.
    """

    def step(batch: Batch) -> Outcome:
        inputs = (batch.images, batch.labels) if details.separability else (batch.images,)
        value = loss(*inputs)
        seen = details.details
        if seen is None:
            raise RuntimeError("a layer attention loss that ran has details")
        logged = {
            "layer_consistency": float(seen.consistency.mean()),
            "layer_mask_contrast": float(seen.mask_contrast.mean()),
            "layer_evidence": float(seen.evidence.all(dim=1).float().mean()),
        }
        if seen.separability is not None:
            inner, last = seen.separability.mean(dim=0).tolist()
            logged |= {"separability_inner": inner, "separability_last": last}
        return Outcome(value, logged)

    return step


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Give sum(part) / sum(whole) for each image; 0, without a gradient, where there is no whole.

    What is not finite stays so, for the training loop to name its images.
    """
    total = whole.flatten(1).sum(dim=1)
    nothing = total.detach() <= torch.finfo(total.dtype).tiny ** 0.5
    return torch.where(nothing, 0, part.flatten(1).sum(dim=1) / torch.where(nothing, 1, total))
