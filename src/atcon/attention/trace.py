"""One forward pass that serves every gradient-based map of the same images."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from atcon.attention.borrow import borrowed, recordable
from atcon.attention.folding import Folds, folds_of, layout_of
from atcon.attention.guided import GuidedRule
from atcon.attention.mode import KeptOutput, Notes, TracedMode, entered, kept_output
from atcon.attention.target import logits_of, selected_sum
from atcon.attention.tokens import Cells, no_map
from atcon.errors import InputError
from atcon.types import Classes, Images, Logits


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
    notes = Notes()
    if folds is None:
        folds = _folds_below(model, wanted, images) if gradients else Folds({})
    with ExitStack() as stack:
        kept = [stack.enter_context(kept_output(layer, images, notes.grids)) for layer in wanted]
        stack.enter_context(borrowed(model, images.device, compiled=not (gradients or wanted)))
        images = recordable(images)
        tracked = images.requires_grad
        if gradients and not tracked:
            images = images.detach().requires_grad_()
        entry = images.clone(memory_format=layout_of(images))  # the model may write to its input
        if gradients:
            mode = TracedMode(notes, folds, leaf=None if tracked else entry)
            stack.enter_context(entered(mode, model, wanted, images))
        else:
            stack.enter_context(torch.no_grad())
        logits = logits_of(model(entry))
    _check_layers(wanted, kept, images)
    _check_logits(logits, model, images, gradients=gradients)
    found = tuple(outputs[0] for outputs in kept)
    return Trace(
        model=model,
        layers=wanted,
        images=images,
        features=tuple(output.maps for output in found),
        logits=logits,
        rule=notes.rule,
        folds=folds,
        autocast=autocast,
        tracked=tracked,
        grids=tuple(notes.grids),
        attentions=tuple(notes.weights),
        outputs=found,
    )


def _folds_below(model: nn.Module, layers: Sequence[nn.Module], images: Images) -> Folds:
    """Find what folds while the outputs of layers are read, on one sample."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(kept_output(layer, images[:1], ()))
        return folds_of(model, images)


def _check_layers(
    layers: Sequence[nn.Module], kept: Sequence[Sequence[KeptOutput]], images: Images
) -> None:
    """Refuse a layer that did not run or gave no map of the images."""
    for layer, outputs in zip(layers, kept, strict=True):
        if not outputs:
            raise InputError(
                f"layer {type(layer).__name__} did not run in the model's forward pass"
            )
        if len(outputs[0].maps) != len(images):
            raise no_map(outputs[0].raw, images, layer)


def _check_logits(logits: Logits, model: nn.Module, images: Images, *, gradients: bool) -> None:
    """Refuse logits that are not one row for each image, or carry no gradient that is needed."""
    if len(logits) != len(images):
        raise InputError(f"{len(images)} images gave {len(logits)} rows of logits")
    if gradients and not logits.requires_grad:
        raise InputError(
            f"the logits of {type(model).__name__} carry no gradient to the image: "
            "remove no_grad, detach or compilation from its forward pass"
        )


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Compute with the types of the operands: maps are compared in float32."""
    with torch.autocast(device.type, enabled=False):
        yield


def in_single_precision(maps: Tensor) -> Tensor:
    """Give maps in float32 at least: half precision is for the network, not for comparing maps."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
