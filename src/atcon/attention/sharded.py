"""Networks whose weights are sharded over processes (FSDP2, `fully_shard`).

Weights come together when the forward pass of a sharded module starts. A map needs them after that
pass and again in the second one, and its own gradient must not end the step. So the whole loss runs
inside one sharded module, and sharded modules within the network are gathered for its length and
left out of the steps that they would take by themselves.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from torch import nn

from atcon.errors import InputError

_MISUSE = (
    "the model's weights are sharded over processes, but the map or loss runs outside the module "
    "that gathers them: shard what computes the loss, fully_shard(ConsistencyLoss(net)), and call "
    "that; tensor-parallel models are not supported"
)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Hold the weights of sharded modules inside the model together, and their hooks still.

    Raises:
        InputError: No sharded module around the model is running.
    """
    if "torch.distributed.fsdp" not in sys.modules:
        yield
        return
    states = _states(model)
    if not states:
        _refuse_shards(model)
        yield
        return
    before = [state._training_state for _, state in states]  # noqa: SLF001  PyTorch has no public
    still = type(before[0]).PRE_BACKWARD  # way to run a sharded module without its hooks
    recomputing = _gather(states)
    try:
        for _, state in states:
            state._training_state = still  # noqa: SLF001
        yield
    finally:
        if recomputing:
            for (_, state), was in zip(states, before, strict=True):
                state._training_state = was  # noqa: SLF001


def _states(model: nn.Module) -> list[tuple[Any, Any]]:
    """List the sharded modules of a model with their states."""
    from torch.distributed.fsdp import FSDPModule  # noqa: PLC0415  loaded by who shards

    return [
        (module, module._get_fsdp_state())  # noqa: SLF001  as above
        for module in model.modules()
        if isinstance(module, FSDPModule)
    ]


def _gather(states: list[tuple[Any, Any]]) -> bool:
    """Bring the weights together for this forward pass; give whether it is the backward pass."""
    _, first = states[0]
    context = first._state_ctx  # noqa: SLF001  as above
    if first._is_root is not False:  # noqa: SLF001
        raise InputError(_MISUSE)
    if context.iter_forward_root is None:
        if context.post_backward_final_callback_queued:
            return True  # it holds the weights already
        raise InputError(_MISUSE)
    if context not in _running:
        for module, _ in states:
            module.reshard()  # a step may have changed what an earlier pass gathered
            module.unshard()
        _until_the_end(context, states)
    return False


_running: "WeakSet[Any]" = WeakSet()
"""What is gathered for a forward pass that has not ended."""


def _until_the_end(context: Any, states: list[tuple[Any, Any]]) -> None:
    """Keep the hooks still until the whole forward pass ends, and let the next one gather anew."""
    root = context.iter_forward_root._modules[0]  # noqa: SLF001  as above
    idle = type(states[0][1]._training_state).IDLE  # noqa: SLF001

    def end(*_: Any) -> None:
        at_end.remove()
        _running.discard(context)
        for _, state in states:
            state._training_state = idle  # noqa: SLF001

    def begin(*_: Any) -> None:
        at_begin.remove()
        for module, _ in states:
            module.reshard()

    _running.add(context)
    at_end = root.register_forward_hook(end, always_call=True)
    at_begin = root.register_forward_pre_hook(begin, prepend=True)


def _refuse_shards(model: nn.Module) -> None:
    from torch.distributed.tensor import DTensor  # noqa: PLC0415  loaded by who shards

    if any(isinstance(weight, DTensor) for weight in model.parameters()):
        raise InputError(_MISUSE)
