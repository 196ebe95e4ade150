"""Random numbers that a map draws: from the caller's generator or a fixed one, never a global."""

from collections.abc import Sequence

import torch
from torch import Tensor

SEED = 0
"""Of the generator that a map uses when it is given none."""


def source_of(generator: torch.Generator | None) -> torch.Generator:
    """Give the caller's generator, or one that is the same at every call."""
    return torch.Generator().manual_seed(SEED) if generator is None else generator


def normal(shape: Sequence[int], source: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers; the same for every floating type and device of `like`."""
    return torch.randn(tuple(shape), generator=source, device=source.device).to(like)


def uniform(shape: Sequence[int], source: torch.Generator, like: Tensor) -> Tensor:
    """Draw numbers of [0, 1); the same for every floating type and device of `like`."""
    return torch.rand(tuple(shape), generator=source, device=source.device).to(like)
