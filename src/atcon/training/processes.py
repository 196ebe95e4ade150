"""Processes that share every batch: who has which images, and how their gradients are added.

The gradients are added after the backward pass, and not by DistributedDataParallel, which averages
them: parts of a batch may be unequal or empty, and several losses may share a network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from atcon.training.steps import Batch, Outcome, Step

T = TypeVar("T")
_PATIENCE = timedelta(hours=6)
"""How long a process waits for the others: while the first one evaluates, or waits for a lock. A
process that ends is noticed at once."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together; this one alone unless said otherwise.

    Attributes:
        rank: The number of this one, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes, validates and speaks."""
        return self.rank == 0

    def part(self, images: int) -> slice:
        """Give this process's images of a batch; the first ones have one more, the last may be out.

        Args:
            images: Of the whole batch.
        """
        size, more = divmod(images, self.count)
        start = self.rank * size + min(self.rank, more)
        return slice(start, start + size + (self.rank < more))

    def same(self, make: Callable[[], T]) -> T:
        """Let the first process make something, and give it to all; the others wait for it."""
        if self.count == 1:
            return make()
        made: list[Any] = [make() if self.first else None]
        distributed.broadcast_object_list(made)
        result: T = made[0]
        return result

    def meet(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            distributed.all_gather_object([None] * self.count, None)

    def add_up(self, addends: Mapping[str, float], weights: Sequence[Tensor]) -> dict[str, float]:
        """Replace the gradients by their sum over the processes; give the sums of the numbers.

        A weight without a gradient in any process is left without one.

        Args:
            addends: What this process adds to numbers of the whole batch.
            weights: All that is trained, in the same order in every process.
        """
        if self.count == 1:
            return dict(addends)
        own = (dict(addends), [at for at, weight in enumerate(weights) if weight.grad is not None])
        said: list[Any] = [None] * self.count
        distributed.all_gather_object(said, own)
        _add_gradients([weights[at] for at in sorted({at for _, has in said for at in has})])
        sums: dict[str, float] = {}
        for numbers, _ in said:
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums


ALONE = Processes()


class Addend(nn.Module):
    """A loss that is a mean over images, times the share that they have of the whole batch.

    Inside what Fabric wraps: that gives a loss in single precision, which rounds the share.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss, self.share = loss, 1.0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Give what these images add to the loss of the whole batch."""
        value: Tensor = self.loss(*inputs)
        return value if self.share == 1 else self.share * value


def divided(step: Step, addend: Addend) -> Step:
    """Let a step be asked of a part of a batch, or of none of its images.

    Args:
        step: Whose loss is `addend`, possibly wrapped by Fabric.
        addend: Is told the share.
    """

    def part(batch: Batch) -> Outcome:
        if not batch.names:
            return Outcome(batch.images.new_zeros((), requires_grad=True), {})
        addend.share = batch.share
        found = step(batch)
        return Outcome(found.loss, {key: batch.share * said for key, said in found.logged.items()})

    return part


@contextmanager
def together(rank: int, count: int, meeting: str, *, on_gpu: bool) -> Iterator[Processes]:
    """Meet the other processes for the length of the block.

    Args:
        rank: The number of this process.
        count: How many there are.
        meeting: Where they meet: `file://PATH`, or `env://` as torchrun says.
        on_gpu: Whether each has a GPU of its own.
    """
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=count,
        timeout=_PATIENCE,
    )
    try:
        yield Processes(rank, count)
    finally:
        distributed.destroy_process_group()


def _add_gradients(weights: Sequence[Tensor]) -> None:
    """Add the gradients of these weights over the processes; none counts as zero."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        kinds.setdefault((weight.dtype, weight.device), []).append(weight.grad)
    for gradients in kinds.values():
        joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(joined)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, total in zip(gradients, torch.split(joined, sizes), strict=True):
            gradient.copy_(total.view(gradient.shape))
