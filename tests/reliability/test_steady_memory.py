"""Promise 14: 2,000 losses and 500 calls of every map keep no memory, hook, graph or open file."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import ref

import pytest
import torch
from maps import take
from nets import stages
from tiny_transformers import transformer
from torch import nn
from torch.nn.modules import module as every_module

from atcon import ConsistencyLoss
from atcon.attention import ATTENTION

pytestmark = pytest.mark.timeout(1200)

MEGABYTE = 2**20
LOOKS = 20
"""How often the memory is looked at; the first quarter settles it."""
WARM = 10
LIBC = ctypes.CDLL(None)
PR_SET_THP_DISABLE = 41


@pytest.fixture(autouse=True)
def _no_huge_pages() -> Iterator[None]:
    """Only what is used counts.

    NumPy has Linux take huge pages where its large arrays lie. What lies there later is made one
    by the kernel, when it likes: the process then holds 2 MB more and has asked for nothing.
    """
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    yield
    LIBC.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _only_what_is_new() -> Iterator[None]:
    """Set aside what was there before, so that looking at the rest takes milliseconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def resident() -> int:
    """Bytes of memory that are in use, after what is free was given back to the system."""
    gc.collect()
    LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(model: nn.Module) -> dict[str, int]:
    """What a leak would be seen in: tensors, open files, hooks of every kind, and modes."""
    gc.collect()
    places = [*map(vars, model.modules()), vars(every_module)]
    hooks = sum(
        len(table)
        for place in places
        for name, table in place.items()
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    )
    hooks += sum(len(weight._backward_hooks or ()) for weight in model.parameters())
    tensors = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
    files = len(list(Path("/proc/self/fd").iterdir()))
    modes = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
    modules = len([*model.modules()])
    return {
        "hooks": hooks, "tensors": tensors, "files": files, "modes": modes, "modules": modules
    }  # fmt: skip


def objects() -> int:
    """How many Python objects there are that can hold others."""
    gc.collect()
    return len(gc.get_objects())


def growth(step: Callable[[], None], steps: int) -> int:
    """Bytes that memory has grown over the steps, without those that settle it."""
    sizes = []
    for at in range(steps):
        step()
        if (at + 1) % (steps // LOOKS) == 0:
            sizes.append(resident())
    settled = sizes[len(sizes) // 4 :]
    return settled[-1] - settled[0]


def keeps_nothing(model: nn.Module, step: Callable[[], None], steps: int) -> None:
    """Take steps, and find memory, hooks, graphs and files as they were after the first ones."""
    for _ in range(WARM):
        step()
    before, known = held(model), objects()
    assert growth(step, steps) < MEGABYTE
    assert held(model) == before
    assert objects() - known < steps // 2


@pytest.mark.parametrize("steps", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_training_for_consistency_keeps_nothing(steps):
    model, images = stages(torch.float32), torch.randn(4, 3, 16, 16)
    consistency = ConsistencyLoss(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step():
        optimizer.zero_grad()
        consistency(images).backward()
        optimizer.step()

    keeps_nothing(model, step, steps)


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("calls", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_a_map_and_its_gradient_keep_nothing(name, calls):
    entry = ATTENTION[name]
    tokens = entry.resolution == "tokens"
    model = transformer("vit", dtype=torch.float32) if tokens else stages(torch.float32)
    images = torch.randn(2, 3, *([32, 32] if tokens else [16, 16]))
    weights = list(model.parameters())

    def call():
        maps = take(name, model, images, create_graph=entry.differentiable)
        if entry.differentiable:
            torch.autograd.grad(maps.sum(), weights, allow_unused=True)

    keeps_nothing(model, call, calls)


def test_a_loss_that_is_let_go_frees_its_graph_and_its_model():
    model, images = stages(torch.float32), torch.randn(2, 3, 16, 16, requires_grad=True)
    consistency = ConsistencyLoss(model)
    value = consistency(images)
    seen = ref(model), ref(consistency), ref(images)
    del model, consistency, value, images
    gc.collect()
    assert [one() for one in seen] == [None, None, None]
