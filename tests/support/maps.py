"""Every attention map of the table, with options that keep tests fast, and where it applies."""

import inspect
from typing import Any

from tiny import NETWORKS
from torch import Tensor, nn

from atcon.attention import ATTENTION

OPTIONS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 4},
    "smooth_grad": {"samples": 3},
    "rise": {"masks": 20, "cells": 4},
    "occlusion": {"window": 4, "stride": 3},
}
"""Few passes, for the laws that hold for any number of them."""

NOT_POOLED = ("functional", "preactivation")
"""Networks in which no module gives what the head pools: CAM refuses them."""


def take(
    name: str, model: nn.Module, images: Tensor, target: Any = None, **options: Any
) -> Tensor | list[Tensor]:
    """Explain by a map of the table, with its quick options."""
    return ATTENTION[name](model, images, target, **{**OPTIONS.get(name, {}), **options})


def applies(name: str, built: str) -> bool:
    """Whether a map can explain a network of `tiny.NETWORKS`."""
    return name != "cam" or built not in NOT_POOLED


def has_option(name: str, option: str) -> bool:
    """Whether a map has an option."""
    return option in inspect.signature(ATTENTION[name].of).parameters


MAPS = [name for name in ATTENTION if ATTENTION[name].resolution != "tokens"]
"""The maps that explain convolutional networks."""

DIFFERENTIABLE = [name for name in MAPS if ATTENTION[name].differentiable]
ON_NETWORKS = [(name, built) for name in MAPS for built in NETWORKS if applies(name, built)]
