"""Seconds and peak memory of one call, on the CPU and on a GPU."""

import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PATIENCE = 3.0  # seconds: a slower call is not repeated, for counting storages is cheap beside it


class Cost(NamedTuple):
    """What a call takes.

    Attributes:
        seconds: The fastest of a few calls.
        peak: Bytes of the tensors alive at the worst moment, beyond those alive before.
    """

    seconds: float
    peak: int


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, adds up the storages that operations make, until each is freed.

    Unlike the resident size of the process it neither counts what the allocator keeps nor needs a
    process of its own; work space inside a kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def know(self, tensors: list[Tensor]) -> None:
        """Leave out what was there before."""
        for tensor in tensors:
            self.alive[tensor.untyped_storage()._cdata] = 0  # noqa: SLF001  its identity

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # noqa: SLF001  a storage has no public identity
        if key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.now += self.alive[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self.now -= self.alive.pop(key)


def cost_of(call: Callable[[], Any], device: torch.device, known: list[Tensor]) -> Cost:
    """Measure a call that gives back nothing that it needs to keep.

    Args:
        call: Is run three times, first for its memory; once, if it is slow.
        device: Where it computes.
        known: Tensors that were there before, such as the weights.
    """
    began = time.perf_counter()
    peak = _peak_on_gpu(call, device) if device.type == "cuda" else _peak(call, known)
    taken = time.perf_counter() - began
    if taken > _PATIENCE:
        return Cost(taken, peak)
    return Cost(min(_seconds(call, device) for _ in range(2)), peak)


def _peak(call: Callable[[], Any], known: list[Tensor]) -> int:
    with _LiveTensors() as live:
        live.know(known)
        call()
    peak: int = live.peak
    return peak


def _peak_on_gpu(call: Callable[[], Any], device: torch.device) -> int:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    peak: int = torch.cuda.max_memory_allocated(device) - before
    return peak


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    _synchronise(device)
    began = time.perf_counter()
    call()
    _synchronise(device)
    return time.perf_counter() - began


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
