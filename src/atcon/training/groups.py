"""Groups of parameters for an optimiser: a rate for each depth, a decay for weights only."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from atcon.errors import InputError, no_such


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
    head: str | None = None,
    head_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Group what trains by its learning rate and weight decay, for any optimiser of torch.

    A block `n` blocks before the head learns at `lr · layer_decay^n` (Howard and Ruder, ACL 2018),
    the head at `lr · head_factor`. Biases and the parameters of normalisations have no weight
    decay. Without any of this there is one group, which an optimiser takes as it would take
    `model.parameters()`.

    Args:
        model: Any module; parameters without `requires_grad` are left out.
        lr: The learning rate where no factor says otherwise.
        weight_decay: Of weights.
        layer_decay: Factor from one block to the one before it.
        head: Name of the module that is the head; None: the last block, as `blocks_of` cuts them.
        head_factor: Of the head's learning rate.

    Returns:
        Dictionaries with "params", "lr" and "weight_decay", from the input to the head; every
        parameter that trains is in exactly one.

    Raises:
        InputError: Nothing trains, a value is out of range, or there is no such head.
    """
    for name, value, right, rule in (
        ("lr", lr, lr > 0, "above 0"),
        ("weight_decay", weight_decay, weight_decay >= 0, "0 or larger"),
        ("layer_decay", layer_decay, layer_decay > 0, "above 0 (1: the same rate everywhere)"),
        ("head_factor", head_factor, head_factor > 0, "above 0"),
    ):
        if not right:
            raise InputError(f"{name} must be {rule}, but it is {value}")
    depths = depth_of_parameters(model, head)
    top = max(depths.values(), default=0)
    spared = _without_decay(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depths[name]
        rate = lr * (head_factor if depth == top else layer_decay ** (top - depth))
        decay = 0.0 if id(parameter) in spared else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise InputError(
            f"no parameter of {type(model).__name__} requires a gradient: there is nothing to train"
        )
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


class Block(NamedTuple):
    """A part of a network that learns at one rate.

    Attributes:
        name: Of the module; empty for the network itself.
        module: What holds the parameters.
        whole: With those of its parts; else its own only (a class token beside its blocks).
    """

    name: str
    module: nn.Module
    whole: bool = True

    @property
    def layers(self) -> int:
        """How many modules with parameters of their own there are, besides normalisations."""
        return sum(map(_is_layer, self.module.modules())) if self.whole else 0

    def parameters(self) -> Iterator[nn.Parameter]:
        """Give them in the order they were registered."""
        return self.module.parameters(recurse=self.whole)

    def parts(self) -> list["Block"]:
        """Give its own parameters and its parts, where they hold any."""
        prefix = f"{self.name}." if self.name else ""
        parts = [self._replace(whole=False)]
        parts += [Block(f"{prefix}{name}", part) for name, part in self.module.named_children()]
        return [part for part in parts if any(True for _ in part.parameters())]


def blocks_of(model: nn.Module) -> list[Block]:
    """Give the blocks of a network from the input to the head, in the order they were registered.

    They are the parts that hold parameters. Where a single one of them has more than one layer, it
    is a wrapper, such as `features` or `encoder`, and its own parts take its place; the last one,
    most often the head, only if no other has. So ResNet's are `conv1`, `bn1`, `layer1` to `layer4`
    and `fc`, MobileNetV2's the 19 of `features` and `classifier`, and a ViT's are its encoder's
    layers with what comes before and after.
    """
    blocks = [Block("", model)]
    while True:
        composed = [at for at, block in enumerate(blocks) if block.layers > 1]
        if len(composed) > 1 and composed[-1] == len(blocks) - 1:
            composed.pop()
        if len(composed) != 1:
            return blocks
        blocks[composed[0] : composed[0] + 1] = blocks[composed[0]].parts()


def depth_of_parameters(model: nn.Module, head: str | None = None) -> dict[str, int]:
    """Give the depth of every parameter, by its name: 0 at the input, the largest in the head.

    A block without a layer (a normalisation, a class token) is as deep as the block before it.

    Args:
        model: Any module.
        head: Name of the module that is the head; None: the last block with a layer, and what
            follows it.

    Raises:
        InputError: The model has no such part with parameters.
    """
    blocks = blocks_of(model)
    last = max((at for at, block in enumerate(blocks) if block.layers), default=0)
    heads = blocks[last:] if head is None else [_named(model, head)]
    in_head = {id(parameter) for block in heads for parameter in block.parameters()}
    depths: dict[int, int] = {}
    opened = 0
    for block in blocks:
        body = [id(parameter) for parameter in block.parameters() if id(parameter) not in in_head]
        opened += bool(body and block.layers)
        for key in body:
            depths.setdefault(key, max(opened - 1, 0))  # a shared one belongs to the first
    top = max(depths.values(), default=-1) + 1
    return {name: depths.get(id(p), top) for name, p in model.named_parameters()}


def _named(model: nn.Module, name: str) -> Block:
    known = {n: m for n, m in model.named_modules() if n and any(True for _ in m.parameters())}
    if not known:
        raise InputError(f"{type(model).__name__} has no part with parameters to be the head")
    if name not in known:
        raise no_such("part with parameters", name, known)
    return Block(name, known[name])


def _is_layer(module: nn.Module) -> bool:
    return not _is_norm(module) and any(True for _ in module.parameters(recurse=False))


def _is_norm(module: nn.Module) -> bool:
    """Whether it normalises; by its name, as libraries have many that share no class."""
    return "norm" in type(module).__name__.lower()


def _without_decay(model: nn.Module) -> set[int]:
    """Give the ids of biases and of normalisations' parameters."""
    return {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if "bias" in name or _is_norm(module)
    }
