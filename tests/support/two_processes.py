"""What each of two gloo processes does in the distributed tests; run as a program.

    python two_processes.py RANK WORLD FOLDER CASE...

Every case trains for ten steps on its half of each batch and leaves its weights in FOLDER.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed
from nets import sgd, stages
from tiny import pictures
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from atcon import ConsistencyLoss, InputError

STEPS = 10
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Both(nn.Module):
    """Supervised and consistency loss of one network, in one forward pass."""

    def __init__(self, net: nn.Module, *, first: bool = True) -> None:
        super().__init__()
        self.net, self.consistency, self.first = net, ConsistencyLoss(net), first

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        if self.first:
            return cross_entropy(self.net(images), labels) + self.consistency(images)
        return self.consistency(images) + cross_entropy(self.net(images), labels)


def network(dtype: torch.dtype, **options: object) -> nn.Module:
    """The network of every case; BatchNorm keeps its statistics, or samples would interact."""
    return stages(dtype, **options)


def bare(module: nn.Module) -> nn.Module:
    return module


def wrapped(module: nn.Module, **options: object) -> nn.Module:
    return DistributedDataParallel(module, **{"find_unused_parameters": True, **options})


def sharded(module: nn.Module) -> nn.Module:
    return fully_shard(module)


def sharded_in_parts(module: nn.Module) -> nn.Module:
    """Each stage is a group of its own."""
    for stage in (module.net if isinstance(module, Both) else module.model).stages:
        fully_shard(stage)
    return fully_shard(module)


PARALLEL: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ddp": wrapped,
    "ddp static": partial(wrapped, find_unused_parameters=False, static_graph=True),
    "fsdp": sharded,
    "fsdp parts": sharded_in_parts,
}

TASKS: dict[str, Callable[[torch.dtype], nn.Module]] = {
    "default": lambda dtype: ConsistencyLoss(network(dtype)),
    "paper": lambda dtype: ConsistencyLoss(network(dtype), preset="paper", mask="deviation"),
    "checkpointed": lambda dtype: ConsistencyLoss(
        network(dtype, call=partial(checkpoint, use_reentrant=False))
    ),
    "micro-batches": lambda dtype: ConsistencyLoss(network(dtype), micro_batch=1),
    "supervised too": lambda dtype: Both(network(dtype)),
    "supervised last": lambda dtype: Both(network(dtype), first=False),
}


def batch(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Four images and labels, new in every step."""
    return pictures(4, seed=step, dtype=dtype), torch.tensor([0, 1, 2, 3])


def train(
    task: str, dtype: torch.dtype, parallel: Callable[[nn.Module], nn.Module], part: slice
) -> dict[str, Tensor]:
    """Take ten steps on a part of each batch; give the weights."""
    module = TASKS[task](dtype).eval()
    model = parallel(module)
    optimizer = sgd(model.parameters())
    for step in range(STEPS):
        inputs = batch(step, dtype)[: 2 if isinstance(module, Both) else 1]
        optimizer.zero_grad()
        model(*(x[part] for x in inputs)).backward()
        optimizer.step()
    return {name: full(value.detach()) for name, value in module.named_parameters()}


def full(value: Tensor) -> Tensor:
    """Gather a sharded weight."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def misuse(name: str) -> str:
    """Do it wrong; give what is said about it."""
    net = network(torch.float64)
    images, _ = batch(0, torch.float64)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if name == "unused unknown":
                DistributedDataParallel(ConsistencyLoss(net))(images)
            elif name == "model wrapped":
                ConsistencyLoss(DistributedDataParallel(net))(images)
            elif name == "outside":
                _kept = DistributedDataParallel(net)
                ConsistencyLoss(net)(images)
            elif name == "loss not sharded":
                ConsistencyLoss(fully_shard(net))(images)
            elif name == "alone":
                ConsistencyLoss(net)(images)
    except InputError as error:
        return f"InputError: {error}"
    return "\n".join(str(warning.message) for warning in said)


def main() -> None:
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world
    )
    share = 4 // world
    part = slice(rank * share, (rank + 1) * share)
    found: dict[str, object] = {}
    for case in sys.argv[4:]:
        parallel, task, dtype = case.split("/")
        try:
            if parallel == "misuse":
                found[case] = misuse(task)
            else:
                found[case] = train(task, DTYPES[dtype], PARALLEL[parallel], part)
        except Exception:
            found[case] = traceback.format_exc()
            break
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
