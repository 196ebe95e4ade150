"""Which runs can be divided among processes, and among how many."""

import os

import torch
from torch import distributed

from atcon.errors import InputError
from atcon.experiments.arms import arms_of
from atcon.experiments.config import variant_of
from atcon.experiments.method_arms import mask_options_of
from atcon.experiments.sections import RunConfig


def on_gpu(config: RunConfig) -> bool:
    """Whether a run is computed on CUDA."""
    return config.device.partition(":")[0] in ("auto", "cuda", "gpu") and torch.cuda.is_available()


def count_of(config: RunConfig) -> int:
    """Give how many processes train a run together.

    Raises:
        InputError: There are not as many GPUs, the device names one, or torchrun started others.
    """
    gpus = torch.cuda.device_count() if on_gpu(config) else 0
    every = 1 if ":" in config.device else max(gpus, 1)
    count = every if config.devices == "auto" else config.devices
    if count > 1 and (":" in config.device or config.device == "mps"):
        raise InputError(
            f"devices = {count}, but device = {config.device!r} is a single one: set device=cuda"
        )
    started = started_by_torchrun()
    if gpus and count > gpus and started is None:
        raise InputError(f"devices = {count}, but there are {gpus} GPUs here")
    if started is not None and started[1] != count:
        raise InputError(
            f"torchrun started {started[1]} processes, but devices = {count}: set "
            f"devices={started[1]}"
        )
    return count


def started_by_torchrun() -> tuple[int, int] | None:
    """Give the rank of this process and their count; None if torchrun did not start it."""
    if not distributed.is_torchelastic_launched():
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def check_divisible(config: RunConfig, count: int) -> None:
    """Refuse what several processes would compute otherwise than one.

    Raises:
        InputError: Images of a batch interact, or numbers are drawn for a whole batch; the stage
            and the key are named.
    """
    instead = f"with devices = {count}; set devices=1"
    for name, arm in arms_of(config).items():
        if not arm.divisible:
            raise InputError(
                f"{name}: images of a batch interact, so this stage cannot be trained {instead}, "
                "or leave it out of baselines"
            )
    variants = {f"variants.{name}": variant_of(config, name) for name in config.variants}
    stages = {
        "supervised": config.supervised,
        "consistency": config.consistency,
        **{name: one.consistency for name, one in variants.items()},
    }
    for name, settings in stages.items():
        if settings.batch_norm == "batch":
            raise InputError(
                f"{name}.batch_norm = 'batch' makes images of a batch interact, so it cannot be "
                f"used {instead} or {name}.batch_norm=frozen"
            )
    for name, one in {"consistency": config, **variants}.items():
        options = mask_options_of(one.consistency)
        if options.random:
            keys = ", ".join(f"{name}.mask_{kind}" for kind in options.drawn)
            raise InputError(f"{keys}: drawn for a whole batch, which cannot be done {instead}")
