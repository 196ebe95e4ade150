"""An attention map as an entry of the table: one function of a traced pass, and what it needs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from torch import nn

from atcon.attention.borrow import with_gradients
from atcon.attention.layers import resolve_layer
from atcon.attention.target import choose_classes
from atcon.attention.trace import Trace, in_single_precision, trace, without_autocast
from atcon.errors import InputError
from atcon.types import Classes, Images, LayerMaps, Maps, Target

Resolution = Literal["layer", "input", "tokens"]


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention function g(f, x) -> A.

    Attributes:
        of: `(run, classes, *, create_graph, **options) -> maps`: the map of a traced pass.
        title: Its name in print.
        source: Where it is defined.
        resolution: Whether it has the target layer's cells, the input's pixels, or the cells of a
            transformer's tokens.
        differentiable: Whether it can be differentiated with respect to the weights.
        signed: Whether its values have a sign, so that 0 means no evidence.
        guided: Whether it needs activations that the guided rule reaches.
    """

    of: Callable[..., Maps]
    title: str
    source: str
    resolution: Resolution = "layer"
    differentiable: bool = True
    signed: bool = True
    guided: bool = False

    @overload
    def __call__(
        self,
        model: nn.Module,
        images: Images,
        target: Target = ...,
        *,
        layer: str | nn.Module | None = ...,
        create_graph: bool = ...,
        **options: Any,
    ) -> LayerMaps: ...

    @overload
    def __call__(
        self,
        model: nn.Module,
        images: Images,
        target: Target = ...,
        *,
        layer: Sequence[str | nn.Module],
        create_graph: bool = ...,
        **options: Any,
    ) -> list[LayerMaps]: ...

    def __call__(
        self,
        model: nn.Module,
        images: Images,
        target: Target = None,
        *,
        layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
        create_graph: bool = False,
        **options: Any,
    ) -> LayerMaps | list[LayerMaps]:
        """Explain a batch; see `atcon.explain`."""
        if layer is None or isinstance(layer, str | nn.Module):
            return self._maps(model, images, target, [layer], create_graph, options)[0]
        return self._maps(model, images, target, layer, create_graph, options)

    def _maps(
        self,
        model: nn.Module,
        images: Images,
        target: Target,
        names: Sequence[str | nn.Module | None],
        create_graph: bool,
        options: dict[str, Any],
    ) -> list[LayerMaps]:
        layers = self._layers(model, images, names)
        run = trace(model, images, layers, gradients=self.differentiable)
        classes = choose_classes(run.logits, target)
        runs = [run.at(index) for index in range(len(layers))] if layers else [run]
        return [self.map(run, classes, create_graph=create_graph, **options) for run in runs]

    @with_gradients()
    def map(
        self, run: Trace, classes: Classes, *, create_graph: bool = False, **options: Any
    ) -> Maps:
        """Give the map of a traced pass, in float32 at least."""
        self._check(options, create_graph=create_graph)
        with without_autocast(run.images.device):
            return in_single_precision(self.of(run, classes, create_graph=create_graph, **options))

    def _layers(
        self, model: nn.Module, images: Images, layers: Sequence[str | nn.Module | None]
    ) -> list[nn.Module]:
        if self.resolution != "layer":
            if any(layer is not None for layer in layers):
                raise InputError(f"{self.title} explains the {self.resolution}: it takes no layer")
            return []
        return [resolve_layer(model, layer, images)[1] for layer in layers]

    def _check(self, options: dict[str, Any], *, create_graph: bool) -> None:
        if create_graph and not self.differentiable:
            raise InputError(
                f"{self.title} cannot be differentiated: it is made of many masked passes"
            )
        known = list(inspect.signature(self.of).parameters)[2:]
        for name in options:
            if name not in known:
                raise InputError(f"{self.title} has no option {name!r} ({', '.join(known)})")
