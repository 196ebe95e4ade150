"""Algorithm 1: mask the input with one map, compute the other again, correlate the two."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import (
    Attention,
    Trace,
    attention_named,
    choose_classes,
    trace,
    without_autocast,
)
from atcon.attention.borrow import batch_statistics, recordable, with_gradients
from atcon.attention.folding import Folds
from atcon.consistency.choices import Method
from atcon.consistency.mask_options import with_strength
from atcon.consistency.masks import squashed
from atcon.consistency.matching import upsampled
from atcon.errors import InputError
from atcon.types import Classes, Images, LayerMaps, Logits, Maps, Target


@dataclass(frozen=True)
class Pair:
    """Two maps of a batch at one resolution, and how well they agree.

    Attributes:
        names: Of A_i and A_j; with several layers as in `grad_cam@layer3`.
        first: A_i of the images.
        second: A_i of the images that A_j masked; without masking, A_j.
        mask: P of A_j, at the images' resolution; None without masking.
        correlation: h(first, second), one value per image.
    """

    names: tuple[str, str]
    first: LayerMaps
    second: LayerMaps
    mask: Maps | None
    correlation: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Comparison:
    """The maps of one batch and how well they agree.

    Attributes:
        logits: `[batch, class]` of the unmasked images.
        classes: What every map explains, chosen on the unmasked images.
        maps: Of the unmasked images, by name, each at its own resolution.
        pairs: Every pair A_i, A_j with i < j.
        correlation: The mean over the pairs (Eq. 1), one value per image.
        activations: How many activations the guided rule reached.
    """

    logits: Logits
    classes: Classes
    maps: dict[str, Tensor]
    pairs: tuple[Pair, ...]
    correlation: Float[Tensor, " batch"]
    activations: int

    @property
    def first(self) -> Tensor:
        """A_1 of the images: Grad-CAM, unless other maps are compared."""
        return self.pairs[0].first

    @property
    def second(self) -> Tensor:
        """What A_1 is compared with."""
        return self.pairs[0].second

    @property
    def mask(self) -> Tensor | None:
        """P of A_2; None without masking."""
        return self.pairs[0].mask

    def detached(self) -> "Comparison":
        """Give the same values without their graph."""
        return _merged([self], lambda tensors: tensors[0].detach())

    @staticmethod
    def joined(parts: Sequence["Comparison"]) -> "Comparison":
        """Put the comparisons of parts of a batch together."""
        return parts[0] if len(parts) == 1 else _merged(parts, torch.cat)


@dataclass(frozen=True)
class _Node:
    """A map of the comparison: its entry, an index into the traced layers, and how it is shown."""

    name: str
    attention: Attention
    layer: int | None
    label: str

    def of(self, run: Trace, classes: Classes, *, create_graph: bool) -> Tensor:
        run = run if self.layer is None else run.at(self.layer)
        return self.attention.map(run, classes, create_graph=create_graph)


_Pairs = list[tuple[_Node, _Node]]


@with_gradients()
def compare(
    model: nn.Module,
    images: Images,
    layers: Mapping[str, nn.Module],
    method: Method,
    *,
    target: Target = None,
    strengths: Float[Tensor, "batch mask"] | None = None,
    also: Sequence[str] = (),
    create_graph: bool = False,
) -> Comparison:
    """Run Algorithm 1 on a batch: one traced pass, and one more for every mask.

    Args:
        model: Any network that the maps can explain; left as it was.
        images: A normalised batch; masks multiply it, so masked pixels go to the mean colour.
        layers: The layers to explain, by name; with several, each is compared and the mean taken.
        method: The maps, and how they are compared.
        target: What to explain; None for the top predicted class.
        strengths: Of the masks, a column for each of A_2, A_3, ...; None leaves them as they are.
        also: Names of further maps of the unmasked images to keep in `maps`.
        create_graph: Whether the correlation can be differentiated with respect to the weights.

    Raises:
        InputError: A map that cannot be differentiated is asked for its gradient, or a map cannot
            be computed.
    """
    _check_differentiable(method, create_graph=create_graph)
    images = recordable(images)
    folds = Folds({}) if method.batch_statistics else None
    pairs = _pairs(method, list(layers))
    with batch_statistics(used=method.batch_statistics):
        plain = trace(model, images, [*layers.values()], folds=folds)
        classes = choose_classes(plain.logits, target)
        graph = _with_graph(pairs, method) if create_graph else set()
        maps = {
            node: node.of(plain, classes, create_graph=node in graph)
            for node in dict.fromkeys([*(node for pair in pairs for node in pair), *_more(also)])
        }
        logits = plain.logits if create_graph else plain.logits.detach()
        activations, folds = plain.rule.guided, plain.folds
        del plain  # without a graph to keep, its activations are freed before the next pass

        def again(p: Tensor) -> Trace:
            with without_autocast(images.device):
                masked = p[:, None].to(images.dtype) * images
            return trace(model, masked, [*layers.values()], folds=folds)

        if method.matching.by == "mask":
            masks = _masks(maps, pairs, method, images, strengths)
            found = dict(_masked(maps, masks, pairs, classes, again, create_graph=create_graph))
        else:
            found = {pair: method.matching.match(*(maps[node] for node in pair)) for pair in pairs}
            masks = {}
    with without_autocast(images.device):
        agreement = {pair: _agreement(*two, method) for pair, two in found.items()}
        correlation = torch.stack([agreement[pair] for pair in pairs]).mean(dim=0)
    seen = tuple(
        Pair((i.label, j.label), *found[i, j], masks.get(j), agreement[i, j]) for i, j in found
    )
    by_name = {node.label: values for node, values in maps.items()}
    return Comparison(logits, classes, by_name, seen, correlation, activations)


def _pairs(method: Method, layers: Sequence[str]) -> _Pairs:
    """List A_i, A_j with i < j for every layer; maps of the input are the same for all layers."""
    pairs: _Pairs = []
    for layer in range(max(len(layers), 1)):
        place = f"@{layers[layer]}" if len(layers) > 1 else ""
        nodes = [
            _Node(name, attention, layer, name + place)
            if attention.resolution == "layer" and layers
            else _Node(name, attention, None, name)
            for name, attention in method.maps
        ]
        pairs += combinations(nodes, 2)
    return pairs


def _more(also: Sequence[str]) -> Iterator[_Node]:
    for name in also:
        attention = attention_named(name)
        yield _Node(name, attention, 0 if attention.resolution == "layer" else None, name)


def _with_graph(pairs: _Pairs, method: Method) -> set[_Node]:
    """The maps whose gradient is needed: a mask that is detached needs none."""
    measured = {i for i, _ in pairs}
    if method.matching.by == "mask" and method.detach_mask:
        return measured
    return measured | {j for _, j in pairs}


def _masks(
    maps: dict[_Node, Tensor],
    pairs: _Pairs,
    method: Method,
    images: Tensor,
    strengths: Tensor | None,
) -> dict[_Node, Tensor]:
    """Turn every masking map into P at the images' resolution (Eq. 6)."""
    masks = {}
    columns = [name for name, _ in method.maps[1:]]
    with without_autocast(images.device):
        for node in dict.fromkeys(j for _, j in pairs):
            values = maps[node].detach() if method.detach_mask else maps[node]
            p = method.mask(upsampled(values, tuple(images.shape[2:])))
            if strengths is not None:
                p = with_strength(p, strengths[:, columns.index(node.name)])
            masks[node] = p
    return masks


def _masked(
    maps: dict[_Node, Tensor],
    masks: dict[_Node, Tensor],
    pairs: _Pairs,
    classes: Classes,
    again: Callable[[Tensor], Trace],
    *,
    create_graph: bool,
) -> Iterator[tuple[tuple[_Node, _Node], tuple[Tensor, Tensor]]]:
    """Measure on the images that A_j masked every map before it, with one pass for each mask."""
    for j, p in masks.items():
        run = again(p)
        for i in dict.fromkeys(i for i, other in pairs if other == j):
            yield (i, j), (maps[i], i.of(run, classes, create_graph=create_graph))


def _agreement(first: Tensor, second: Tensor, method: Method) -> Tensor:
    pair = (squashed(first), squashed(second)) if method.squash else (first, second)
    return method.correlation(*pair)


def _check_differentiable(method: Method, *, create_graph: bool) -> None:
    masking = method.matching.by == "mask"
    for position, (name, attention) in enumerate(method.maps):
        if attention.differentiable or not create_graph:
            continue
        if masking and position == len(method.maps) - 1:
            if not method.detach_mask:
                raise InputError(
                    f"{name} cannot be differentiated: as a mask it needs detach_mask=True"
                )
            continue
        raise InputError(
            f"{name} cannot be differentiated: it can be the last map, as a detached mask "
            "(matching 'mask', detach_mask=True), or be compared without a gradient"
        )


def _merged(parts: Sequence[Comparison], merge: Callable[[list[Tensor]], Tensor]) -> Comparison:
    """Apply `merge` to every tensor of the parts."""
    pairs = []
    for same in zip(*(part.pairs for part in parts), strict=True):
        masks = [pair.mask for pair in same if pair.mask is not None]
        pairs.append(
            replace(
                same[0],
                first=merge([pair.first for pair in same]),
                second=merge([pair.second for pair in same]),
                mask=merge(masks) if masks else None,
                correlation=merge([pair.correlation for pair in same]),
            )
        )
    return replace(
        parts[0],
        logits=merge([part.logits for part in parts]),
        classes=merge([part.classes for part in parts]),
        maps={name: merge([part.maps[name] for part in parts]) for name in parts[0].maps},
        pairs=tuple(pairs),
        correlation=merge([part.correlation for part in parts]),
    )
