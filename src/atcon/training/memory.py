"""What is done when the memory of a device runs out: it is tried again in smaller parts."""

from collections.abc import Callable, Iterator, Sequence
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


def in_parts(take: Callable[[slice], T], count: int, size: int) -> Iterator[tuple[slice, T]]:
    """Take so many images in parts, each for itself, as an evaluation does.

    Args:
        take: Does what is wanted with the images of a part; begins anew each time.
        count: Of all images.
        size: Of a part; from where the memory of a device runs out, half of it.

    Yields:
        Each part with what was made of it, in their order.

    Raises:
        AtconError: The memory is not enough for one image.
    """
    start = 0
    while start < count:
        part = slice(start, min(start + size, count))
        try:
            made = take(part)
        except torch.OutOfMemoryError as error:  # it holds the frames, and they hold the tensors
            said = str(error).partition("\n")[0]
        else:
            yield part, made
            start = part.stop
            continue
        size = part.stop - start
        if size == 1:
            raise AtconError(
                f"the memory of the device ran out on one image: free the device ({said}); what "
                "was saved before is intact"
            )
        size = (size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


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
