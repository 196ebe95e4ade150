"""FixMatch: what the weak view shows beyond doubt is the label of the strong view.

Sohn et al., NeurIPS 2020, Eq. 4; for multi-label data each class is decided for itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from atcon.attention import logits_of
from atcon.attention.borrow import borrowed
from atcon.attention.trace import in_single_precision
from atcon.baselines.two_views import both_views, in_training
from atcon.errors import InputError
from atcon.training import Batch, BatchNormPolicy, Outcome, Step
from atcon.types import Images, Logits


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model gives itself.

    Attributes:
        labels: `[batch, class]`, 0 or 1.
        used: `[batch, class]`, the entries that are sure enough; whole rows for single-label data.
    """

    labels: Float[Tensor, "batch class"]
    used: Bool[Tensor, "batch class"]

    @property
    def share(self) -> float:
        """Which share of the entries is used."""
        return float(self.used.double().mean())

    @property
    def positives(self) -> float:
        """How many classes per sample are used as positive."""
        return float((self.used & (self.labels == 1)).double().sum(dim=1).mean())


def pseudo_labels(
    weak_logits: Logits, *, multi_label: bool, threshold: float = 0.95
) -> PseudoLabels:
    """Decide by the prediction of the weak view, as a constant.

    Args:
        weak_logits: `[batch, class]`.
        multi_label: Whether classes do not exclude each other. If so a class is positive at a
            probability of `threshold` or more and negative at 1 - `threshold` or less; if not, a
            sample is of its most probable class at `threshold` or more.
        threshold: The authors' tau.

    Raises:
        InputError: There is no sample, or the threshold is out of range.
    """
    _check_threshold(threshold, multi_label=multi_label)
    if len(weak_logits) == 0:
        raise InputError("there are no images to label: the batch is empty")
    logits = in_single_precision(weak_logits.detach())
    if multi_label:
        positive = logits.sigmoid() >= threshold
        negative = (-logits).sigmoid() >= threshold  # 1 - p without the rounding of 1 - threshold
        return PseudoLabels(positive.to(logits.dtype), positive | negative)
    confidence, classes = logits.softmax(dim=1).max(dim=1)
    labels = functional.one_hot(classes, logits.shape[1]).to(logits.dtype)
    return PseudoLabels(labels, (confidence >= threshold)[:, None].expand_as(logits))


def _check_threshold(threshold: float, *, multi_label: bool) -> None:
    """Refuse a threshold by which nothing, or everything and its opposite, is sure."""
    lowest = 0.5 if multi_label else 0.0
    if not lowest < threshold <= 1:
        kind = "multi-label" if multi_label else "single-label"
        raise InputError(
            f"threshold is {threshold}, but for {kind} data it must be above {lowest}, at most 1"
        )


def fixmatch_loss(
    weak_logits: Logits,
    strong_logits: Float[Tensor, "_ _"],
    *,
    multi_label: bool,
    threshold: float = 0.95,
) -> Float[Tensor, ""]:
    """Give the cross-entropy of the strong views with the pseudo-labels of the weak ones.

    What is not used counts as 0 in the mean, so the loss grows with the share that is used (Eq. 4);
    a batch without a sure label gives 0 and gradients of 0.

    Args:
        weak_logits: `[batch, class]`; no gradient flows into them.
        strong_logits: Of the same samples.
        multi_label: See `pseudo_labels`; the mean is then over samples and classes.
        threshold: See `pseudo_labels`.

    Raises:
        InputError: As `pseudo_labels`, or the logits do not belong together.
    """
    return _loss_on(
        pseudo_labels(weak_logits, multi_label=multi_label, threshold=threshold),
        strong_logits,
        multi_label=multi_label,
    )


def _loss_on(found: PseudoLabels, strong_logits: Tensor, *, multi_label: bool) -> Tensor:
    if found.labels.shape != strong_logits.shape:
        raise InputError(
            f"weak and strong views must be of the same samples, but their logits are "
            f"{list(found.labels.shape)} and {list(strong_logits.shape)}"
        )
    logits = in_single_precision(strong_logits)
    labels, used = found.labels.to(logits.dtype), found.used
    if multi_label:
        loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    else:
        loss = functional.cross_entropy(logits, labels, reduction="none")
        used = used[:, 0]
    return loss.masked_fill(~used, 0).mean()


class FixMatchLoss(nn.Module):
    """The loss on pseudo-labels; the model that labels is the model that learns, as it is now.

    Attributes:
        batch_norm: Of the strong views: "frozen" uses the running statistics, "batch" those of the
            batch, and moves the running ones. The weak views are labelled in evaluation mode.
        found: The labels of the last call; None before the first.
    """

    found: PseudoLabels | None = None

    def __init__(
        self,
        model: nn.Module,
        *,
        multi_label: bool,
        threshold: float = 0.95,
        batch_norm: BatchNormPolicy = "frozen",
    ) -> None:
        super().__init__()
        _check_threshold(threshold, multi_label=multi_label)
        self.model = model
        self.multi_label = multi_label
        self.threshold = threshold
        self.batch_norm: BatchNormPolicy = batch_norm

    def forward(self, weak: Images, strong: Images) -> Float[Tensor, ""]:
        """Give the mean loss of a batch; the model's mode is left as it was.

        Args:
            weak: `[batch, channel, *grid]`, normalised; labelled without a gradient.
            strong: Other views of the same images, in the same order.

        Raises:
            InputError: See `fixmatch_loss`.
        """
        with borrowed(self.model, weak.device, compiled=True), torch.no_grad():
            weak_logits = logits_of(self.model(weak.clone()))  # the model may write to its input
        with in_training(self.model, self.batch_norm):
            logits = logits_of(self.model(strong.clone()))
        self.found = pseudo_labels(
            weak_logits, multi_label=self.multi_label, threshold=self.threshold
        )
        return _loss_on(self.found, logits, multi_label=self.multi_label)


def fixmatch_step(loss: nn.Module, details: FixMatchLoss) -> Step:
    """A step on a `ViewBatch` of weak and strong views; `loss` is `details`, perhaps wrapped.

    Labels are not looked at, so the images may be unlabelled.
    """

    def step(batch: Batch) -> Outcome:
        views = both_views(batch)
        value = loss(views.images, views.second)
        if details.found is None:
            raise RuntimeError("a loss on pseudo-labels that ran has them")
        found = details.found
        return Outcome(value, {"pseudo_labels": found.share, "pseudo_positives": found.positives})

    return step
