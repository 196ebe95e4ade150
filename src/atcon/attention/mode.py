"""What a forward pass is traced with: the rules of its operations, and the layers' outputs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atcon.attention.attention_weights import attend
from atcon.attention.borrow import batch_statistics, borrowed, uses_batch_statistics
from atcon.attention.checkpointing import Replay, kept_whole, replayed
from atcon.attention.convolution import CONVOLUTIONS, Convolution
from atcon.attention.folding import LOOKS, Folds, tensors_in
from atcon.attention.guided import GuidedRule, guided_activation
from atcon.attention.normalisation import Norm
from atcon.attention.second_order import TWICE
from atcon.attention.tokens import Cells, Layout, map_layout, unpacked


class KeptOutput(NamedTuple):
    """A layer's map, and the tensor and arrangement it comes from, where gradients are taken."""

    maps: Tensor
    raw: Tensor
    layout: Layout


class Folded(NamedTuple):
    """A convolution that ran together with the BatchNorm after it.

    Attributes:
        stand_in: What the network holds as the convolution's output.
        normalised: The output of both; None once the BatchNorm has passed it on.
        convolution: What ran without the BatchNorm.
        norm: The BatchNorm.
        plain: The convolution's output alone, once somebody has read it.
    """

    stand_in: "ref[Tensor]"
    normalised: Tensor | None
    convolution: Convolution
    norm: Norm
    plain: Tensor | None = None


@dataclass
class Notes:
    """What a pass leaves besides its output.

    Attributes:
        rule: The switch of its activations, which counts them.
        grids: The cells of its convolutions, in the order they ran.
        weights: The attention weights of its blocks.
    """

    rule: GuidedRule = field(default_factory=GuidedRule)
    grids: list[Cells] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)


@contextmanager
def kept_output(
    layer: nn.Module, images: Tensor, grids: Sequence[Cells]
) -> Iterator[list[KeptOutput]]:
    """Keep the map in a layer's output of the last call, safe from in-place operations after it.

    The network goes on with a copy made of the map.
    """
    kept: list[KeptOutput] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        tensor, changed = unpacked(output)
        layout = map_layout(tensor, images, layer, grids)
        assert tensor is not None  # noqa: S101  or there were no layout
        kept[:] = [KeptOutput(layout.map_in(tensor), tensor, layout)]
        return changed(layout.output_of(kept[0].maps, tensor))

    hook = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


@contextmanager
def entered(
    mode: "TracedMode", model: nn.Module, layers: Sequence[nn.Module], images: Tensor
) -> Iterator[None]:
    """Enter `mode`, and enter it again whenever a checkpointed part of the model runs again."""

    def remember() -> Replay:
        then, by_batch = mode.again(), uses_batch_statistics()
        mode.before = then.before

        @contextmanager
        def replay() -> Iterator[None]:
            again = then.again()
            with ExitStack() as stack:
                for layer in layers:
                    stack.enter_context(kept_output(layer, images, again.notes.grids))
                stack.enter_context(batch_statistics(used=by_batch))
                stack.enter_context(borrowed(model, images.device))
                stack.enter_context(entered(again, model, layers, images))
                yield

        return replay

    with replayed(remember):
        with mode:
            yield
        mode.give_values()


class TracedMode(TorchFunctionMode):
    """While entered, every ReLU obeys the rule and convolutions and BatchNorm differentiate fast.

    Args:
        notes: What the pass leaves besides its output.
        folds: The convolutions that take the BatchNorm after them along.
        leaf: The input, if nobody but a map will ask for its gradient.
    """

    def __init__(self, notes: Notes, folds: Folds, leaf: Tensor | None) -> None:
        super().__init__()
        self.notes, self.folds, self.leaf = notes, folds, leaf
        self.folded: dict[int, Folded] = {}  # by the id of the stand-in
        self.before: set[int] = set()  # folded before a checkpointed part began

    def again(self) -> "TracedMode":
        """Give the same conditions, as they are now, with notes of their own."""
        other = copy(self)
        other.notes = Notes(grids=list(self.notes.grids))
        other.folded, other.before = dict(self.folded), set(self.folded)
        return other

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm and (norm := Norm.called_with(*args, **kwargs)):
            return self._normalise(kwargs.get("input", args[0] if args else None), norm)
        if self.folded and func not in LOOKS:
            args, kwargs = self._restored((args, kwargs))
        result = guided_activation(self.notes.rule, func, args, kwargs)
        if result is None and func in CONVOLUTIONS:
            result = self._convolve(*args, **kwargs)
        if func in TWICE:
            result = TWICE[func](*args, **kwargs)
        attended = attend(func, args, kwargs) if result is None else None
        if attended is not None:
            result = attended.result
            if attended.weights is not None:
                self.notes.weights.append(attended.weights)
        result = func(*args, **kwargs) if result is None else result
        if func in CONVOLUTIONS:
            self.notes.grids.append(tuple(result.shape[2:]))
        return result

    def _convolve(self, *args: Any, **kwargs: Any) -> Tensor | None:
        convolution = Convolution.called_with(*args, **kwargs)
        if convolution is None:
            return None
        needs_input = convolution.x is not self.leaf
        norm = self.folds.after(convolution)
        if norm is None:
            return convolution.run(self.notes.rule, needs_input=needs_input)
        with kept_whole():
            folded = self.folds.fold(convolution, norm)
        return self._stand_in(
            folded.run(self.notes.rule, needs_input=needs_input), convolution, norm
        )

    def _stand_in(self, output: Tensor, convolution: Convolution, norm: Norm) -> Tensor:
        """Give what the network may hold, show and read as the convolution's output.

        It has no values: they are computed for whoever asks for them.
        """
        stand_in = output.new_full((), math.nan).expand_as(output)
        stand_in.requires_grad_(output.requires_grad)
        folded, key = self.folded, id(stand_in)
        folded[key] = Folded(
            ref(stand_in, lambda _: folded.pop(key, None)), output, convolution, norm
        )
        return stand_in

    def give_values(self) -> None:
        """Put the convolutions' outputs where the network or a hook has kept what stands for them.

        The inputs of checkpointed parts stay as they are: the parts may run again.
        """
        for key in [*self.folded.keys() - self.before]:
            stand_in = self.folded[key].stand_in()
            if stand_in is not None:
                plain = self._plain(stand_in)
                del self.folded[key]  # nothing may refer weakly to what is swapped
                with suppress(RuntimeError):  # something else does: it stays without values
                    torch.utils.swap_tensors(stand_in, plain.view_as(plain))  # type: ignore[no-untyped-call]

    def _of(self, x: Any) -> Folded | None:
        found = self.folded.get(id(x))
        return found if found is not None and found.stand_in() is x else None

    def _normalise(self, x: Any, norm: Norm) -> Tensor:
        """Pass on what its convolution has normalised already; normalise anything else."""
        found = self._of(x)
        if found is None or found.normalised is None or not found.norm.same(norm):
            return norm.apply(self._restored(x), self.notes.rule)
        if found.plain is not None:  # the network may have written to it
            return norm.apply(found.plain, self.notes.rule)
        if id(x) in self.before:  # the input of a checkpointed part stays
            return found.normalised.clone()
        self.folded[id(x)] = found._replace(normalised=None)
        return found.normalised

    def _restored(self, value: Any) -> Any:
        """Give the plain output of a folded convolution to a reader that was not expected."""
        if not any(id(tensor) in self.folded for tensor in tensors_in(value)):
            return value
        if isinstance(value, Tensor):
            return self._plain(value)
        if isinstance(value, dict):
            return {key: self._restored(item) for key, item in value.items()}
        return type(value)(self._restored(item) for item in value)

    def _plain(self, value: Tensor) -> Tensor:
        found = self._of(value)
        if found is None:
            return value
        if found.plain is None:
            convolution = found.convolution
            with torch.enable_grad():  # also where the network looks without a gradient first
                plain = convolution.run(self.notes.rule, needs_input=convolution.x is not self.leaf)
            found = self.folded[id(value)] = found._replace(plain=plain)
        assert found.plain is not None  # noqa: S101  it was there or has just been made
        return found.plain
