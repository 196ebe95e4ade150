"""Activation checkpointing: what the backward pass computes again is what was traced.

A checkpointed part of a network runs again inside `loss.backward()`, long after the traced pass:
with the network back in training mode, and out of sight of the pass. So each part remembers, when
it first runs, under what it ran, and runs again under the same.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import checkpoint

from atcon.errors import InputError

Replay = Callable[[], AbstractContextManager[Any]]

_HOOK, _REENTRANT = "_checkpoint_hook", "CheckpointFunction"
_original = {name: getattr(checkpoint, name) for name in (_HOOK, _REENTRANT)}


class _Here(threading.local):
    """What this thread traces.

    Attributes:
        remember: Gives the conditions of the running pass; None outside a pass.
        parts: How many checkpointed parts are running, one inside the other.
    """

    remember: Callable[[], Replay] | None = None
    parts: int = 0


_here = _Here()
_lock = threading.Lock()
_passes = 0


@contextmanager
def replayed(remember: Callable[[], Replay]) -> Iterator[None]:
    """Let checkpointed parts that run inside the block run again as they ran here.

    Args:
        remember: Called when a part starts; gives what is entered whenever it runs again.
    """
    outer, _here.remember = _here.remember, remember
    _count(1)
    try:
        yield
    finally:
        _count(-1)
        _here.remember = outer


@contextmanager
def kept_whole() -> Iterator[None]:
    """Keep what is saved inside the block, in a checkpointed part too: it runs only once."""
    if not _here.parts:
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(Tensor.detach, _itself):
        yield


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _count(change: int) -> None:
    """Put our two names in the place of PyTorch's while at least one pass is traced."""
    global _passes  # noqa: PLW0603  PyTorch's module is global too
    with _lock:
        _passes += change
        names = {_HOOK: _part, _REENTRANT: _Refused} if _passes else _original
        for name, value in names.items():
            setattr(checkpoint, name, value)


@contextmanager
def _part(frame: Any) -> Iterator[None]:
    """Run a checkpointed part for the first time."""
    remember = _here.remember
    if remember is not None:
        replay, compute = remember(), frame.recompute_fn

        def compute_again(*args: Any) -> None:
            with replay():
                compute(*args)

        frame.recompute_fn = compute_again
    with _original[_HOOK](frame):
        _here.parts += 1
        try:
            yield
        finally:
            _here.parts -= 1


class _Refused:
    """Stands for reentrant checkpointing, which has no gradient at the image."""

    @staticmethod
    def apply(*args: Any) -> Any:
        """Refuse to run inside a traced pass."""
        if _here.remember is None:
            return _original[_REENTRANT].apply(*args)
        raise InputError(
            "the model uses reentrant activation checkpointing, which gives no gradient at a layer "
            "or at the image: call checkpoint(..., use_reentrant=False)"
        )
