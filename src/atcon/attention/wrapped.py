"""Networks inside wrappers: which are refused, and what their layers are called."""

import gc
import warnings

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from atcon.errors import InputError

_WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module"}
"""What `torch.compile` and `checkpoint_wrapper` put into the names of the modules they wrap."""


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Name every module of the model, not its wrapper, as if nothing were compiled or wrapped."""
    return {layer_name(name): module for name, module in model.named_modules()}


def layer_name(name: str) -> str:
    """Take the names of wrappers out of a module's name."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrapped(model: nn.Module) -> nn.Module:
    """Take a network out of DataParallel, DistributedDataParallel and torch.compile."""
    while is_parallel(model) or type(model).__name__ == "OptimizedModule":
        inner = model.module if is_parallel(model) else model._orig_mod  # noqa: SLF001  no other way
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` or `.compile()` was used; without loading the compiler to ask."""
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return in_place or type(module).__name__ == "OptimizedModule"


def is_parallel(module: nn.Module) -> bool:
    """Whether it spreads the network that it calls over devices or processes."""
    return isinstance(module, DistributedDataParallel | DataParallel)


def refuse_parallel(model: nn.Module) -> None:
    """Refuse a model whose parallel wrapper sees one forward pass where a map needs several.

    Raises:
        InputError: The model is, or contains, a DistributedDataParallel or DataParallel module.
    """
    for module in model.modules():
        if isinstance(module, DistributedDataParallel):
            raise InputError(
                "the model is wrapped in DistributedDataParallel, which averages gradients of one "
                "forward pass only: wrap the loss instead, DistributedDataParallel("
                "ConsistencyLoss(net), find_unused_parameters=True), and explain `model.module`"
            )
        if isinstance(module, DataParallel):
            raise InputError(
                "the model is wrapped in DataParallel, whose copies have no layers of their own: "
                "pass `model.module`"
            )


def check_synchronised(loss: nn.Module, *, first: bool) -> None:
    """Say when gradients of a loss that runs now would not be averaged over the processes.

    Args:
        loss: The module that computes the whole loss, and nothing else.
        first: Whether to look for a wrapper that is not in use, which takes a tenth of a second.

    Raises:
        InputError: DistributedDataParallel wraps the loss and waits for the gradient of the last
            bias, which the loss does not have.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    running = DistributedDataParallel._get_active_ddp_module()  # type: ignore[no-untyped-call]  # noqa: SLF001
    if running is None:
        if first and torch.is_grad_enabled() and _has_idle_wrapper(loss):
            warnings.warn(
                "the network is wrapped in DistributedDataParallel, but the loss is computed "
                "outside the wrapper's forward pass: its gradients are not averaged over the "
                "processes. Compute the loss inside it, in a module that DistributedDataParallel "
                "wraps",
                stacklevel=3,
            )
        return
    patient = running.find_unused_parameters or running.static_graph
    if running.module is loss and not patient:
        raise InputError(
            "the consistency loss gives no gradient to the last bias, for which "
            "DistributedDataParallel waits: pass it find_unused_parameters=True"
        )


def _has_idle_wrapper(loss: nn.Module) -> bool:
    """Whether a DistributedDataParallel module somewhere holds parameters of the loss."""
    ours = {id(parameter) for parameter in loss.parameters()}
    return any(
        id(parameter) in ours
        for thing in gc.get_objects()
        if issubclass(type(thing), DistributedDataParallel)
        for parameter in thing.parameters()
    )
