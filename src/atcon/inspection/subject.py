"""The network under inspection: what its passes show, observed once and shared by the checks."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atcon.attention import Trace, logits_of, resolve_layer, trace
from atcon.attention.borrow import borrowed, recordable
from atcon.attention.recording import watched
from atcon.attention.second_order import refuse_cut_graph
from atcon.attention.tokens import Cells, map_layout, unpacked
from atcon.attention.wrapped import named_layers, unwrapped
from atcon.consistency import PRESETS, Comparison, ConsistencyLoss
from atcon.errors import InputError
from atcon.types import Images

Value = TypeVar("Value")

_ATTENTION = {functional.scaled_dot_product_attention, functional.multi_head_attention_forward}


class once(Generic[Value]):  # noqa: N801  used as `property` is
    """A property computed once; an exception is kept, and the same one is raised again."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, subject: None, owner: type) -> "once[Value]": ...
    @overload
    def __get__(self, subject: "Subject", owner: type) -> Value: ...
    def __get__(self, subject: "Subject | None", owner: type) -> "once[Value] | Value":
        if subject is None:
            return self
        name = self.compute.__name__
        if name not in subject.known:
            try:
                subject.known[name] = (self.compute(subject), None)
            except Exception as raised:  # a user's network raises anything
                subject.known[name] = (None, raised.with_traceback(None))
        value, failure = subject.known[name]
        if failure is not None:
            raise failure
        return value  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Passed:
    """What one plain forward pass of two images shows.

    Attributes:
        output: As the model gave it.
        order: Names of the modules in order of completion; one that runs twice is there twice.
        cells: Of the outputs that are maps, by module.
        attention: How many calls of PyTorch's attention kernels.
        written: Buffers that the pass wrote to.
    """

    output: Any
    order: tuple[str, ...]
    cells: dict[str, Cells]
    attention: int
    written: tuple[str, ...]


@dataclass(frozen=True)
class Twice:
    """What PyTorch says to a plain second-order gradient, without anything of ours.

    Attributes:
        failure: Its message; None if there is such a gradient.
        recomputed: Modules that ran again in the backward pass: activation checkpointing.
    """

    failure: str | None
    recomputed: int


@dataclass(frozen=True)
class Step:
    """One gradient of the loss of two images.

    Attributes:
        loss: Its value.
        gradients: By the name of the trainable weight; None where the loss gives none.
    """

    loss: float
    gradients: dict[str, Tensor | None]


class Subject:
    """A network and a batch, and what was observed of them.

    Args:
        given: The network as the user has it.
        images: A normalised batch.
        layer: The layer to explain, or None.
    """

    def __init__(self, given: nn.Module, images: Images, layer: str | nn.Module | None) -> None:
        self.given = given
        self.model = unwrapped(given)
        self.images = recordable(images).detach()
        self.two = two_of(self.images)
        self.wanted = layer
        self.known: dict[str, tuple[Any, Exception | None]] = {}

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights that an optimiser would change, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @once
    def passed(self) -> Passed:
        """A plain pass of two images."""
        order: list[str] = []
        cells: dict[str, Cells] = {}
        grids: list[Cells] = []
        modules = named_layers(self.model)

        def record(name: str, output: Any) -> None:
            order.append(name)
            with suppress(InputError):  # no map
                found = map_layout(unpacked(output)[0], self.two, modules[name], grids).cells
                cells[name] = found
                if isinstance(modules[name], nn.Conv1d | nn.Conv2d | nn.Conv3d):
                    grids.append(found)

        watch = _AttentionCalls()
        with borrowed(self.model, self.images.device), torch.no_grad():
            buffers = [(n, b, b._version) for n, b in self.model.named_buffers()]  # noqa: SLF001
            with watched(self.model, record), watch:
                output = self.model(self.two.clone())
            after = dict(self.model.named_buffers())
            written = [
                name
                for name, buffer, version in buffers
                if after.get(name) is not buffer or buffer._version != version  # noqa: SLF001
            ]
        new = sorted(after.keys() - {name for name, _, _ in buffers})
        return Passed(output, tuple(order), cells, watch.calls, (*written, *new))

    @once
    def logits(self) -> Tensor:
        """Of two images."""
        return logits_of(self.passed.output)

    @once
    def layer(self) -> tuple[str, nn.Module]:
        """The layer that is explained."""
        _ = self.passed  # a network that does not run says so there
        return resolve_layer(self.model, self.wanted, self.two)

    @property
    def chosen(self) -> str | None:
        """The name of the layer that the user wants; None: each preset finds its own."""
        return None if self.wanted is None else self.layer[0]

    @once
    def run(self) -> Trace:
        """A traced pass of two images, without a layer."""
        _ = self.passed  # as above
        return trace(self.model, self.two)

    @once
    def comparisons(self) -> dict[str, Comparison]:
        """Algorithm 1 on two images, by preset."""
        _ = self.passed  # as above
        return {
            preset: ConsistencyLoss(self.model, self.chosen, preset=preset).compare(self.two)
            for preset in PRESETS
        }

    @once
    def detached(self) -> Step:
        """The gradient of the loss, the mask taken as a constant (the default preset)."""
        return self._step(detach_mask=True)

    @once
    def through(self) -> Step:
        """The gradient of the loss through the mask."""
        return self._step(detach_mask=False)

    def trains(self, *, detach_mask: bool) -> bool:
        """Whether the loss has a gradient at all."""
        try:
            return bool(self.detached if detach_mask else self.through)
        except Exception:  # the check `gradient` reports it
            return False

    def _step(self, *, detach_mask: bool) -> Step:
        _ = self.passed  # as above
        loss = ConsistencyLoss(self.model, self.chosen, detach_mask=detach_mask)(self.two)
        weights = self.trainable
        found = _differentiated(loss, list(weights.values()))
        return Step(float(loss.detach()), dict(zip(weights, found, strict=True)))

    @once
    def twice(self) -> Twice:
        """A plain second-order gradient of two images."""
        runs = 0

        def count(_name: str, _output: Any) -> None:
            nonlocal runs
            runs += 1

        with borrowed(self.model, self.images.device), watched(self.model, count):
            images = self.two.clone().requires_grad_()
            score = logits_of(self.model(images.clone())).sum()
            before, failure = runs, None
            try:
                (gradient,) = torch.autograd.grad(score, images, create_graph=True)
                if gradient.requires_grad:
                    _differentiated(gradient.square().sum(), [images, *self.trainable.values()])
            except (RuntimeError, InputError) as refused:
                failure = str(refused).strip().split("\n")[0]
        return Twice(failure, runs - before)


def _differentiated(value: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Differentiate as `backward()` does, which trips over every part of the graph."""
    refuse_cut_graph(value)
    return torch.autograd.grad(value, tensors, allow_unused=True)


def two_of(images: Tensor) -> Tensor:
    """Two different images: of a batch of one, the image and its mirror image."""
    return images[:2] if len(images) > 1 else torch.cat([images, images.flip(-1)])


class _AttentionCalls(TorchFunctionMode):
    """While entered, counts the calls of PyTorch's attention kernels."""

    calls = 0

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.calls += func in _ATTENTION
        return func(*args, **(kwargs or {}))
