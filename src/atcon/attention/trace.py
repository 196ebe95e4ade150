"""One forward pass that serves every gradient-based map of the same images."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atcon.attention.attention_weights import attend
from atcon.attention.borrow import (
    batch_statistics,
    borrowed,
    recordable,
    uses_batch_statistics,
)
from atcon.attention.checkpointing import Replay, kept_whole, replayed
from atcon.attention.convolution import CONVOLUTIONS, Convolution
from atcon.attention.folding import LOOKS, Folds, folds_of, layout_of, tensors_in
from atcon.attention.guided import GuidedRule, guided_activation
from atcon.attention.normalisation import Norm
from atcon.attention.second_order import TWICE
from atcon.attention.target import choose_classes, logits_of, selected_sum
from atcon.attention.tokens import Cells, Layout, map_layout, no_map, unpacked
from atcon.errors import InputError
from atcon.types import Classes, Images, Logits

__all__ = [
    "Trace",
    "choose_classes",
    "in_single_precision",
    "logits_of",
    "trace",
    "without_autocast",
]


class KeptOutput(NamedTuple):
    """A layer's map, and the tensor and arrangement it comes from, where gradients are taken."""

    maps: Tensor
    raw: Tensor
    layout: Layout


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves for the maps.

    Attributes:
        model: What ran.
        layers: The target layers, in the order asked for.
        images: The input, `[batch, channel, *grid]`, requiring a gradient.
        features: The outputs of the target layers as `[batch, channel, *cells]`, which the network
            went on with; tokens and channels-last outputs are rearranged.
        logits: `[batch, class]`.
        rule: The switch of the guided rule for this pass.
        folds: The folded weights, shared by every pass over the same weights.
        autocast: The caller's autocast settings, under which the model runs again.
        tracked: Whether the images came with a graph of their own.
        grids: The cells of every convolution of the pass.
        attentions: The attention weights in the order of the pass, `[batch, head, query, key]`, or
            `[window, ...]` where attention is local.
        outputs: Where `features` come from.
    """

    model: nn.Module
    layers: tuple[nn.Module, ...]
    images: Tensor
    features: tuple[Tensor, ...]
    logits: Tensor
    rule: GuidedRule
    folds: Folds
    autocast: tuple[bool, torch.dtype]
    tracked: bool
    grids: tuple[Cells, ...] = ()
    attentions: tuple[Tensor, ...] = ()
    outputs: tuple[KeptOutput, ...] = ()

    def at(self, index: int) -> "Trace":
        """Give the same pass with one of its target layers."""
        return replace(
            self,
            layers=(self.layers[index],),
            features=(self.features[index],),
            outputs=(self.outputs[index],),
        )

    def input(self, *, create_graph: bool) -> Images:
        """Give the images; with their graph only if they have one that the map shall keep."""
        return self.images if create_graph and self.tracked else self.images.detach()

    def again(self, images: Images) -> "Trace":
        """Run the model on other images, for the same layers and with the same folded weights."""
        enabled, dtype = self.autocast
        with torch.autocast(images.device.type, dtype, enabled=enabled):
            return trace(
                self.model,
                images,
                self.layers,
                folds=self.folds,
            )

    def score(self, images: Images) -> Logits:
        """Give the model's logits without any gradient: for maps that only look at the output."""
        enabled, dtype = self.autocast
        with (
            torch.autocast(images.device.type, dtype, enabled=enabled),
            borrowed(self.model, images.device, compiled=True),
            torch.no_grad(),
        ):
            return logits_of(self.model(images.clone()))

    def gradients(
        self,
        classes: Classes,
        at: Sequence[Tensor],
        *,
        create_graph: bool = False,
        guided: bool = False,
    ) -> tuple[Tensor, ...]:
        """Differentiate the chosen logits at tensors of this pass, each sample's its own.

        Args:
            classes: One class for each sample.
            at: `images`, or tensors of `features`.
            create_graph: Whether the gradients can be differentiated.
            guided: Whether activations obey the guided rule (Eq. 5).

        Raises:
            InputError: The chosen logits do not depend on one of the tensors, or the pass keeps no
                gradients.
        """
        if not self.logits.requires_grad:
            raise InputError(
                "this pass keeps no gradients, and this map needs them: trace it with them"
            )
        kept = {id(output.maps): output for output in self.outputs}
        with self.rule.taking_a_map(guided=guided):
            found: tuple[Tensor | None, ...] = torch.autograd.grad(
                selected_sum(self.logits, classes),
                [kept[id(x)].raw if id(x) in kept else x for x in at],
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
        gradients = tuple(gradient for gradient in found if gradient is not None)
        if len(gradients) < len(found):
            missing = next(x for x, gradient in zip(at, found, strict=True) if gradient is None)
            what = "the images" if missing is self.images else "the chosen layer"
            raise InputError(f"the class score does not depend on {what}")
        return tuple(
            kept[id(x)].layout.map_in(gradient) if id(x) in kept else gradient
            for x, gradient in zip(at, gradients, strict=True)
        )

    def layer(self, classes: Classes, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """Give the target layer's feature maps and the chosen logits' gradient there.

        Returns:
            Both `[batch, channel, *cells]`, in float32 at least.

        Raises:
            InputError: There is no target layer, its output is no map, or the logits do not depend
                on it.
        """
        if not self.features:
            raise InputError("this map needs a layer: trace the model with one")
        (gradient,) = self.gradients(classes, self.features[:1], create_graph=create_graph)
        features = self.features[0] if create_graph else self.features[0].detach()
        return in_single_precision(features), in_single_precision(gradient)


def trace(
    model: nn.Module,
    images: Images,
    layers: nn.Module | Sequence[nn.Module] | None = None,
    *,
    folds: Folds | None = None,
    gradients: bool = True,
) -> Trace:
    """Run `model` once, in evaluation mode, keeping what maps need.

    Args:
        model: Any module that maps images to logits; left as it was.
        images: A normalised batch. If it requires a gradient its graph is kept.
        layers: The module, or modules, whose outputs are explained.
        folds: Of an earlier pass over the same weights.
        gradients: Whether any gradient will be asked for. Without, the pass keeps no graph, and a
            compiled model, or one that blocks gradients, runs as it is.

    Raises:
        InputError: There are no images, the output holds no `[batch, class]` logits with a
            gradient, or a layer gives no map.
    """
    if len(images) == 0:
        raise InputError("there are no images to explain: the batch is empty")
    wanted = (layers,) if isinstance(layers, nn.Module) else tuple(layers or ())
    kind = images.device.type
    autocast = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
    rule = GuidedRule()
    grids: list[Cells] = []
    weights: list[Tensor] = []
    with ExitStack() as stack:
        kept = [stack.enter_context(_kept_output(layer, images, grids)) for layer in wanted]
        folds = folds or (folds_of(model, images) if gradients else Folds({}, model))
        stack.enter_context(borrowed(model, images.device, compiled=not (gradients or wanted)))
        images = recordable(images)
        tracked = images.requires_grad
        if gradients and not tracked:
            images = images.detach().requires_grad_()
        entry = images.clone(memory_format=layout_of(images))  # the model may write to its input
        if gradients:
            leaf = None if tracked else entry
            mode = _Traced(rule, folds, leaf, grids, weights)
            stack.enter_context(_entered(mode, model, wanted, images))
        else:
            stack.enter_context(torch.no_grad())
        logits = logits_of(model(entry))
    for layer, outputs in zip(wanted, kept, strict=True):
        if not outputs:
            raise InputError(
                f"layer {type(layer).__name__} did not run in the model's forward pass"
            )
        if len(outputs[0].raw) != len(images):
            raise no_map(outputs[0].raw, images, layer)
    if len(logits) != len(images):
        raise InputError(f"{len(images)} images gave {len(logits)} rows of logits")
    if gradients and not logits.requires_grad:
        raise InputError(
            f"the logits of {type(model).__name__} carry no gradient to the image: "
            "remove no_grad, detach or compilation from its forward pass"
        )
    found = tuple(outputs[0] for outputs in kept)
    return Trace(
        model,
        wanted,
        images,
        tuple(output.maps for output in found),
        logits,
        rule,
        folds,
        autocast,
        tracked,
        tuple(grids),
        tuple(weights),
        found,
    )


@contextmanager
def _kept_output(
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
def _entered(
    mode: "_Traced", model: nn.Module, layers: Sequence[nn.Module], images: Tensor
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
                    stack.enter_context(_kept_output(layer, images, again.grids))
                stack.enter_context(batch_statistics(used=by_batch))
                stack.enter_context(borrowed(model, images.device))
                stack.enter_context(_entered(again, model, layers, images))
                yield

        return replay

    with replayed(remember), mode:
        yield


class _Traced(TorchFunctionMode):
    """While entered, every ReLU obeys the rule and convolutions and BatchNorm differentiate fast.

    Args:
        rule: Of the pass.
        folds: The convolutions that take the BatchNorm after them along.
        leaf: The input, if nobody but a map will ask for its gradient.
        grids: Where to note the cells of the convolutions.
        weights: Where to keep the attention weights.
    """

    def __init__(
        self,
        rule: GuidedRule,
        folds: Folds,
        leaf: Tensor | None,
        grids: list[Cells],
        weights: list[Tensor],
    ) -> None:
        super().__init__()
        self.rule, self.folds, self.leaf = rule, folds, leaf
        self.grids, self.weights = grids, weights
        self.normalised: dict[int, tuple[Tensor, Convolution, Norm]] = {}
        self.before: set[int] = set()  # normalised before a checkpointed part began

    def again(self) -> "_Traced":
        """Give the same conditions, as they are now, with notes of their own."""
        other = copy(self)
        other.rule, other.grids = GuidedRule(), list(self.grids)
        other.weights = None if self.weights is None else []
        other.normalised, other.before = dict(self.normalised), set(self.normalised)
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
        if self.normalised and func not in LOOKS:
            args, kwargs = self._restored((args, kwargs))
        result = guided_activation(self.rule, func, args, kwargs)
        if result is None and func in CONVOLUTIONS:
            result = self._convolve(*args, **kwargs)
        if func in TWICE:
            result = TWICE[func](*args, **kwargs)
        attended = attend(func, args, kwargs) if result is None else None
        if attended is not None:
            result = attended.result
            if attended.weights is not None:
                self.weights.append(attended.weights)
        result = func(*args, **kwargs) if result is None else result
        if func in CONVOLUTIONS:
            self.grids.append(tuple(result.shape[2:]))
        return result

    def _convolve(self, *args: Any, **kwargs: Any) -> Tensor | None:
        convolution = Convolution.called_with(*args, **kwargs)
        if convolution is None:
            return None
        needs_input = convolution.x is not self.leaf
        norm = self.folds.after(convolution)
        if norm is None:
            return convolution.run(self.rule, needs_input=needs_input)
        with kept_whole():
            folded = self.folds.fold(convolution, norm)
        output = folded.run(self.rule, needs_input=needs_input)
        self.normalised[id(output)] = (output, convolution, norm)
        return output

    def _normalise(self, x: Any, norm: Norm) -> Tensor:
        """Pass on what its convolution has normalised already; normalise anything else."""
        _, _, done = self.normalised.get(id(x), (None, None, None))
        if done is not None and done.same(norm):
            output: Tensor = self.normalised.pop(id(x))[0]
            return output.clone() if id(x) in self.before else output  # the part's input stays
        (x,) = self._restored((x,))
        return norm.apply(x, self.rule)

    def _restored(self, value: Any) -> Any:
        """Give the plain output of a folded convolution to a reader that was not expected."""
        if not any(id(tensor) in self.normalised for tensor in tensors_in(value)):
            return value
        if isinstance(value, Tensor):
            _, convolution, _ = self.normalised[id(value)]
            return convolution.run(self.rule, needs_input=convolution.x is not self.leaf)
        if isinstance(value, dict):
            return {key: self._restored(item) for key, item in value.items()}
        return type(value)(self._restored(item) for item in value)


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Compute with the types of the operands: maps are compared in float32."""
    with torch.autocast(device.type, enabled=False):
        yield


def in_single_precision(maps: Tensor) -> Tensor:
    """Give maps in float32 at least: half precision is for the network, not for comparing maps."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
