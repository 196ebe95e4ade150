"""Borrow a model and give it back as it was: mode, buffers, random state, also after an error."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def with_gradients() -> Iterator[None]:
    """Record gradients inside the block, also under a caller's `no_grad` or `inference_mode`."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def recordable(tensor: Tensor) -> Tensor:
    """Give a tensor that autograd can save: a copy of one made under `inference_mode`."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def borrowed(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Put the model in evaluation mode, with gradients enabled, for the length of the block.

    In evaluation mode BatchNorm uses its running statistics, so samples do not interact and one
    backward pass gives every sample's map; dropout is off, so two passes can be compared.

    Args:
        model: Any module; its training flags, buffers and gradients are restored afterwards.
        device: Where it runs; the random state of the CPU and of this device is restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    names = [(module, set(module._buffers)) for module in model.modules()]  # noqa: SLF001
    buffers = _remember_buffers(model)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices, enabled=True), with_gradients():
            model.eval()
            yield model
    finally:
        for module, training in modes:
            module.training = training
        for module, known in names:
            for name in set(module._buffers) - known:  # noqa: SLF001  registered in forward
                delattr(module, name)
        for module, name, buffer, copy, version in buffers:
            module._buffers[name] = buffer  # noqa: SLF001  a reassigned buffer has no public undo
            if buffer._version != version:  # noqa: SLF001  the only sign of a write
                with torch.no_grad():
                    buffer.copy_(copy)


def _remember_buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor, Tensor, int]]:
    """List every buffer with a copy and its version, to see whether a forward pass wrote to it."""
    return [
        (module, name, buffer, buffer.detach().clone(), buffer._version)  # noqa: SLF001  see above
        for module in model.modules()
        for name, buffer in module._buffers.items()  # noqa: SLF001  needed to undo a reassignment
        if buffer is not None and not buffer.is_inference()
    ]
