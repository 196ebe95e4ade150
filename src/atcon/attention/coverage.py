"""What the guided rule reaches in a network, and what stays out of its sight."""

from collections import Counter
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from atcon.attention.activations import KINDS
from atcon.attention.second_order import nodes_of
from atcon.attention.trace import Trace, trace
from atcon.attention.wrapped import is_compiled, layer_name
from atcon.errors import InputError
from atcon.types import Images

_UNSEEN = {
    f"{name}Backward": name
    for name in ("Relu", "LeakyRelu", "PreluKernel", "Elu", "Silu", "Gelu", "Hardswish", "Mish")
}
_INSIDE = "its activations are out of sight"


@dataclass(frozen=True)
class Coverage:
    """Which activations of one forward pass obey the guided rule.

    Attributes:
        by_kind: How many do, by their name.
        unguided: Activation-like calls that the rule leaves alone, by their name: the gradient
            there is the plain one.
        gates: Calls that weigh features instead of making them (softmax, the sigmoid of
            squeeze-and-excitation); they are left alone on purpose.
        hidden: Parts of the network whose activations cannot be seen, and why.
        compiled: Modules compiled by `torch.compile`; they run eagerly while a map is taken.
    """

    by_kind: dict[str, int]
    unguided: dict[str, int]
    gates: dict[str, int]
    hidden: dict[str, str]
    compiled: tuple[str, ...]

    @property
    def guided(self) -> int:
        """How many activations obey the rule."""
        return sum(self.by_kind.values())


def coverage(model: nn.Module, images: Images) -> Coverage:
    """Look at one forward pass of one image.

    Args:
        model: Any network; left as it was.
        images: A normalised batch of the usual size.

    Raises:
        InputError: The network cannot be traced at all.
    """
    return coverage_of(trace(model, images[:1]))


def coverage_of(run: Trace) -> Coverage:
    """Look at a forward pass that has been traced."""
    rule = run.rule
    hidden = {**_out_of_sight(run), **_custom(run)}
    compiled = tuple(
        layer_name(name) or type(module).__name__
        for name, module in run.model.named_modules()
        if is_compiled(module)
    )
    return Coverage(dict(rule.by_kind), dict(rule.unguided), dict(rule.gates), hidden, compiled)


_ACCEPTED: "WeakKeyDictionary[nn.Module, Counter[str]]" = WeakKeyDictionary()


def refuse_unguided(run: Trace) -> None:
    """Refuse a pass whose guided gradient would silently be a plain one, wholly or in part.

    A network is looked through once, and again when other activations obey the rule than then.

    Raises:
        InputError: No activation obeys the rule, or scripted parts hide theirs.
    """
    if run.rule.by_kind and _ACCEPTED.get(run.model) == run.rule.by_kind:
        return
    hidden = _out_of_sight(run)
    if hidden:
        listed = "; ".join(f"{name}: {why}" for name, why in hidden.items())
        raise InputError(
            "Guided Backpropagation would silently be the plain gradient in a part of the network "
            f"({listed}). Use the network before torch.jit, or a map that is not guided"
        )
    if not run.rule.by_kind:
        seen = run.rule.unguided + run.rule.gates
        names = ", ".join(f"{name} ({count})" for name, count in seen.items()) or "none"
        custom = "".join(f"; {name} is {why}" for name, why in _custom(run).items())
        raise InputError(
            "Guided Backpropagation found no activation to guide: the result would be the plain "
            f"gradient. Guided are {', '.join(KINDS)}; seen were {names}{custom}. Choose a map "
            "that is not guided"
        )
    _ACCEPTED[run.model] = run.rule.by_kind.copy()


def _out_of_sight(run: Trace) -> dict[str, str]:
    return _scripted(run.model) or _unseen(run)


def _scripted(model: nn.Module) -> dict[str, str]:
    """Find the scripted modules and functions of the model that hold activations."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") or outer == "" for outer in found):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            if _has_activations(module.inlined_graph):
                found[name] = f"scripted by torch.jit: {_INSIDE}"
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, torch.jit.ScriptFunction) and _has_activations(value.graph):
                found[f"{name}.{attribute}".strip(".")] = f"a scripted function: {_INSIDE}"
    return {name or type(model).__name__: why for name, why in found.items()}


def _has_activations(graph: Any) -> bool:
    text = str(graph)
    return any(f"aten::{kind}{end}" in text for kind in KINDS for end in ("(", "_("))


def _unseen(run: Trace) -> dict[str, str]:
    """Find activations that ran without the rule, by what they left in the autograd graph."""
    found: dict[str, str] = {}
    for node in nodes_of(run.logits):
        name = node.name()
        if "DifferentiableGraph" in name:
            found["a torch.jit graph"] = _INSIDE
        elif name.rstrip("0123456789") in _UNSEEN:
            found[name] = "an activation of scripted or C++ code"
    return found


def _custom(run: Trace) -> dict[str, str]:
    """Find the network's own autograd Functions."""
    found: dict[str, str] = {}
    for node in nodes_of(run.logits):
        function = getattr(type(node), "_forward_cls", None)  # only nodes written in Python have it
        if function is not None and function.__module__.split(".")[0] not in ("atcon", "torch"):
            found[function.__name__] = f"a custom autograd Function of {function.__module__}"
    return found
