"""Promise 14: 2,000 losses and 500 calls of every map keep no memory, hook, graph or open file."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import ref

import pytest
import torch
from maps import MAPS, take
from nets import stages
from torch import nn

from atcon import ConsistencyLoss

pytestmark = pytest.mark.timeout(1200)

MEGABYTE = 2**20
LOOKS = 20
"""How often the memory is looked at; the first quarter settles it."""
WARM = 20


@pytest.fixture(autouse=True)
def _what_is_there_already() -> Iterator[None]:
    """What other tests left is not looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def resident() -> int:
    """Bytes of memory that are in use, after what is free was given back to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(model: nn.Module) -> dict[str, int]:
    """What a leak would be seen in: tensors, open files, and hooks of every kind on the model."""
    gc.collect()
    hooks = sum(
        len(table)
        for module in model.modules()
        for name, table in vars(module).items()
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    )
    tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
    files = len(list(Path("/proc/self/fd").iterdir()))
    return {"hooks": hooks, "tensors": tensors, "files": files, "modules": len([*model.modules()])}


def growth(step: Callable[[], None], steps: int) -> int:
    """Bytes that memory has grown over the steps, without those that settle it."""
    sizes = []
    for at in range(steps):
        step()
        if (at + 1) % (steps // LOOKS) == 0:
            sizes.append(resident())
    settled = sizes[len(sizes) // 4 :]
    return settled[-1] - settled[0]


@pytest.mark.parametrize("steps", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_training_for_consistency_keeps_nothing(steps):
    model, images = stages(torch.float32), torch.randn(4, 3, 16, 16)
    consistency = ConsistencyLoss(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step():
        optimizer.zero_grad()
        consistency(images).backward()
        optimizer.step()

    for _ in range(WARM):
        step()
    before = held(model)
    assert growth(step, steps) < MEGABYTE
    assert held(model) == before


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("calls", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_map_keeps_nothing(name, calls):
    model, images = stages(torch.float32), torch.randn(2, 3, 16, 16)
    for _ in range(WARM):
        take(name, model, images)
    before = held(model)
    assert growth(lambda: take(name, model, images), calls) < MEGABYTE
    assert held(model) == before


def test_a_loss_that_is_let_go_frees_its_graph_and_its_model():
    model, images = stages(torch.float32), torch.randn(2, 3, 16, 16, requires_grad=True)
    consistency = ConsistencyLoss(model)
    value = consistency(images)
    seen = ref(model), ref(consistency), ref(images)
    del model, consistency, value, images
    gc.collect()
    assert [one() for one in seen] == [None, None, None]
