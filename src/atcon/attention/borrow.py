"""Borrow a model and give it back as it was: mode, buffers, random state, also after an error."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from atcon.attention.sharded import gathered
from atcon.attention.wrapped import refuse_parallel
from atcon.errors import InputError

_of_the_batch: ContextVar[bool] = ContextVar("batch_statistics", default=False)


@contextmanager
def batch_statistics(*, used: bool = True) -> Iterator[None]:
    """Let BatchNorm in borrowed models use the statistics of the batch, moving no running ones."""
    token = _of_the_batch.set(used)
    try:
        yield
    finally:
        _of_the_batch.reset(token)


def uses_batch_statistics() -> bool:
    """Whether BatchNorm in borrowed models uses the statistics of the batch."""
    return _of_the_batch.get()


@contextmanager
def with_gradients() -> Iterator[None]:
    """Record gradients inside the block, also under a caller's `no_grad` or `inference_mode`."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def recordable(tensor: Tensor) -> Tensor:
    """Give a tensor that autograd can save: a copy of one made under `inference_mode`."""
    return tensor.clone() if tensor.is_inference() else tensor


def autocast_type(x: Tensor) -> torch.dtype | None:
    """Give what autocast casts an operand to; None: it stays. Custom functions must ask."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(device)


@contextmanager
def borrowed(
    model: nn.Module, device: torch.device, *, compiled: bool = False
) -> Iterator[nn.Module]:
    """Put the model in evaluation mode, with gradients enabled, for the length of the block.

    In evaluation mode BatchNorm uses its running statistics, so samples do not interact and one
    backward pass gives every sample's map; dropout is off, so two passes can be compared.

    Args:
        model: Any module; its training flags, buffers and gradients are restored afterwards.
        device: Where it runs; the random state of the CPU and of this device is restored.
        compiled: Whether compiled parts run compiled: they hide their activations and layers, and
            cannot be differentiated twice.

    Raises:
        InputError: The model is the wrapper of a parallel one, or sharded and not gathered; or the
            caller is inside a transform of `torch.func`.
    """
    refuse_parallel(model)
    _refuse_transforms()
    modes = [(module, module.training) for module in model.modules()]
    names = [(module, set(module._buffers.keys())) for module in model.modules()]  # noqa: SLF001
    buffers = _remember_buffers(model)
    devices = [device] if device.type == "cuda" else []
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices, enabled=True))
            stack.enter_context(with_gradients())
            stack.enter_context(_without_cached_casts())
            stack.enter_context(gathered(model))
            if not compiled:
                stack.enter_context(_uncompiled())
            model.eval()
            if uses_batch_statistics():
                _normalise_by_batch(model)
            yield model
    finally:
        for module, training in modes:
            module.training = training
        for module, known in names:
            for name in set(module._buffers.keys()) - known:  # noqa: SLF001  registered in forward
                delattr(module, name)
        for module, name, buffer, copy, version in buffers:
            module._buffers[name] = buffer  # noqa: SLF001  a reassigned buffer has no public undo
            if buffer._version != version:  # noqa: SLF001  the only sign of a write
                with torch.no_grad():
                    buffer.copy_(copy)


def _refuse_transforms() -> None:
    """Refuse `torch.func`, which cannot see into the passes that a map is made of."""
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001  what autograd.Function asks
        raise InputError(
            "a map or loss was called inside a transform of torch.func (grad, vmap, jvp, ...): "
            "call it outside, on the whole batch, and take gradients by backward() or "
            "torch.autograd.grad; torch.func.functional_call alone may be used"
        )


def _normalise_by_batch(model: nn.Module) -> None:
    """Put BatchNorm in training mode, with copies of the running statistics to move."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.training = True
            for name, buffer in module._buffers.items():  # noqa: SLF001  put back by `borrowed`
                module._buffers[name] = None if buffer is None else buffer.clone()  # noqa: SLF001


@contextmanager
def _without_cached_casts() -> Iterator[None]:
    """Cast weights anew: one that autocast cached under `no_grad` would carry no gradient."""
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled modules and functions as they were written."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and loading it takes seconds
        yield
        return
    try:
        eager = torch.compiler.set_stance("force_eager")
    except RuntimeError as error:
        raise InputError(
            "a map or loss was called inside a compiled function: compile the network, not what "
            "computes the loss, or mark that with torch.compiler.disable"
        ) from error
    with eager:
        yield


def _remember_buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor, Tensor, int]]:
    """List every buffer with a copy and its version, to see whether a forward pass wrote to it."""
    return [
        (module, name, buffer, buffer.detach().clone(), buffer._version)  # noqa: SLF001  see above
        for module in model.modules()
        for name, buffer in module._buffers.items()  # noqa: SLF001  needed to undo a reassignment
        if buffer is not None and not buffer.is_inference()
    ]
