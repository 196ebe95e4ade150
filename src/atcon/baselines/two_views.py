"""What methods on two views of each sample share: their batch, and the mode of the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor, nn

from atcon.training import Batch, BatchNormPolicy, freeze_batch_norm
from atcon.types import Images

Groups = Int[Tensor, " batch"]


@dataclass(frozen=True)
class ViewBatch(Batch):
    """A batch that is seen twice: `images` are the first, or weak, views.

    Attributes:
        second: The other, or strong, views, of the same shape.
        groups: The patient of each sample; None: each sample is its own.
    """

    second: Images
    groups: Groups | None = None


def both_views(batch: Batch) -> ViewBatch:
    """Give the batch as one of two views.

    Raises:
        TypeError: It has one only: the schedule and the step do not go together.
    """
    if not isinstance(batch, ViewBatch):
        raise TypeError(f"this step needs a ViewBatch, not a {type(batch).__name__}")
    return batch


@contextmanager
def in_training(model: nn.Module, batch_norm: BatchNormPolicy) -> Iterator[None]:
    """Put the model in training mode for the length of the block, BatchNorm as the policy says."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    if batch_norm == "frozen":
        freeze_batch_norm(model)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
