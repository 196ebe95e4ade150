"""Steps: what a batch is asked for. A strategy is a schedule of steps; one loop serves all."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from atcon.attention import logits_of
from atcon.consistency import ConsistencyLoss
from atcon.consistency.micro_batch import Gathered, at_a_time, halved, in_float16
from atcon.types import Images, Logits

BatchNormPolicy = Literal["frozen", "batch"]


@dataclass(frozen=True)
class Batch:
    """Normalised images with their labels and names.

    Attributes:
        images: `[batch, channel, *grid]`.
        labels: `[batch, class]`, 0 or 1; a consistency step does not look at them.
        names: One per image, for messages.
        share: Its share of the images that all processes have of this batch.
    """

    images: Images
    labels: Tensor
    names: tuple[str, ...]
    share: float = field(default=1.0, kw_only=True)


@dataclass(frozen=True)
class Outcome:
    """The loss of a step, with its graph, and what is worth logging beside it.

    Of a batch that processes share, both are what this one adds to those of the whole batch.

    Attributes:
        loss: A scalar.
        logged: Values by their names.
        beside: Names of the images that it is of beside those of the batch.
    """

    loss: Tensor
    logged: Mapping[str, float]
    beside: tuple[str, ...] = ()


Step = Callable[[Batch], Outcome]
Schedule = Callable[[int], Iterable[tuple[Step, Batch]]]


class SupervisedLoss(nn.Module):
    """Cross-entropy of the labels: binary per class for multi-label data, else categorical.

    Attributes:
        batch_norm: "frozen" keeps BatchNorm's running statistics as they are, the safe choice for
            batches of a few images; "batch" trains with the statistics of each batch.
        micro_batch: Of how many images the gradients are taken at a time; None: of all. The same
            loss with the memory of that many; but dropout draws other numbers for parts.
    """

    micro_batch: int | None = None

    def __init__(self, model: nn.Module, *, multi_label: bool, batch_norm: BatchNormPolicy) -> None:
        super().__init__()
        self.model = model
        self.multi_label = multi_label
        self.batch_norm = batch_norm
        self._images = 0

    def forward(self, images: Images, labels: Tensor) -> Tensor:
        """Give the mean loss of a batch; the model is left in training mode."""
        self.model.train()
        if self.batch_norm == "frozen":
            freeze_batch_norm(self.model)
        self._images = len(images)
        if self.micro_batch is None or not torch.is_grad_enabled():
            return self._of(images, labels)
        taken = Gathered(self.model.parameters(), half=in_float16(images))
        shares = []
        for start in range(0, len(images), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            share = self._of(images[part], labels[part]) * (len(labels[part]) / len(labels))
            taken.add(share)
            shares.append(share.detach())
        return taken.hand_over(torch.stack(shares).sum())

    @property
    def taken(self) -> int:
        """How many images at a time the last call took; 0 before the first."""
        return at_a_time(self.micro_batch, self._images)

    def halve(self) -> int | None:
        """Let the next call take half as many images at a time as the last.

        Returns:
            The new `micro_batch`; None where it cannot be smaller: it is one image, or BatchNorm
            trains with the statistics of the batch.
        """
        smaller = halved(self.taken, interact=self.batch_norm == "batch")
        self.micro_batch = smaller or self.micro_batch
        return smaller

    def _of(self, images: Images, labels: Tensor) -> Tensor:
        return cross_entropy(logits_of(self.model(images)), labels, multi_label=self.multi_label)


def cross_entropy(logits: Logits, labels: Tensor, *, multi_label: bool) -> Tensor:
    """Give the mean over the images: binary and over the classes too, or of the one class."""
    if multi_label:
        return functional.binary_cross_entropy_with_logits(logits, labels)
    return functional.cross_entropy(logits, labels.argmax(dim=1))


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every BatchNorm layer in evaluation mode: running statistics are used, not updated."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def supervised_step(loss: nn.Module) -> Step:
    """A step on the labels; `loss` is a `SupervisedLoss`, possibly wrapped by Fabric."""

    def step(batch: Batch) -> Outcome:
        return Outcome(loss(batch.images, batch.labels), {})

    return step


def consistency_step(loss: nn.Module, details: ConsistencyLoss) -> Step:
    """A step on the maps; `loss` is `details`, possibly wrapped by Fabric."""

    def step(batch: Batch) -> Outcome:
        value = loss(batch.images)
        if details.details is None:
            raise RuntimeError("a consistency loss that ran has details")
        seen = details.details
        logged = {
            "correlation": float(seen.correlation.mean()),
            "mask_contrast": float(seen.mask_contrast.mean()),
            "entropy": float(seen.entropy.mean()),
            "between_images": seen.between_images,
        }
        if seen.logit_disagreement is not None:
            logged["logit_disagreement"] = float(seen.logit_disagreement.mean())
        return Outcome(value, logged)

    return step


def every_batch(step: Step, batches: Callable[[int], Iterable[Batch]]) -> Schedule:
    """The schedule of a stage that asks the same of every batch (supervised, fine-tuning)."""
    return lambda epoch: ((step, batch) for batch in batches(epoch))


def seed_of(seed: int, *parts: str | int) -> int:
    """Derive a seed for one purpose, so that an epoch can be repeated without the ones before."""
    text = "/".join(map(str, (seed, *parts)))
    value = 1469598103934665603
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) % 2**64
    return value % 2**63


def generator_of(seed: int, *parts: str | int) -> torch.Generator:
    """A generator for one purpose, derived from the run's seed."""
    return torch.Generator().manual_seed(seed_of(seed, *parts))
