"""What a step does when the memory of a device runs out: it is tried again in smaller parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from atcon.errors import AtconError
from atcon.training.steps import Batch

T = TypeVar("T")


class Halves(Protocol):
    """A loss that can be taken in parts."""

    @property
    def taken(self) -> int:
        """How many images at a time the last call took; 0 before the first."""

    def halve(self) -> int | None:
        """Take half as many images at a time as last, and say how many; None: it cannot."""


@dataclass(frozen=True)
class Relief:
    """How a step becomes smaller.

    Attributes:
        halve: Makes the parts smaller in which a step is taken; False: they cannot be.
        generators: What the step draws from, beside the global random numbers.
    """

    halve: Callable[[], bool]
    generators: tuple[torch.Generator, ...] = ()


NO_RELIEF = Relief(lambda: False)


def within_memory(attempt: Callable[[], T], relief: Relief, batch: Batch) -> T:
    """Try until the memory is enough, each time with the random numbers of the first.

    Args:
        attempt: Begins anew each time.
        relief: Asked between two tries.
        batch: For the error.

    Raises:
        AtconError: The memory is not enough for the smallest parts.
    """
    device = batch.images.device
    begun = _random_state(device)
    drawn = [generator.get_state() for generator in relief.generators]
    while True:
        try:
            return attempt()
        except torch.OutOfMemoryError as error:  # it holds the frames, and they hold the tensors
            said = str(error).partition("\n")[0]
        if not relief.halve():
            raise AtconError(
                f"the memory of the device ran out in a step on {len(batch.names)} images, which "
                "cannot be taken in smaller parts: lower batch_size or data.image_size, or free "
                f"the device ({said}); the last saved epoch is intact"
            )
        _put_back(begun, device)
        for generator, state in zip(relief.generators, drawn, strict=True):
            generator.set_state(state)


def halve_largest(losses: Sequence[Halves]) -> int | None:
    """Halve the parts of the loss that takes most images at a time, the first of equals.

    Returns:
        How many it takes now; None where no loss can be halved.
    """
    for loss in sorted(losses, key=lambda loss: -loss.taken):
        size = loss.halve()
        if size is not None:
            return size
    return None


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    on_gpu = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return torch.get_rng_state(), *on_gpu


def _put_back(state: tuple[Tensor, ...], device: torch.device) -> None:
    """Draw again what was drawn since, on this device too, and leave it its memory."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
        torch.cuda.empty_cache()
