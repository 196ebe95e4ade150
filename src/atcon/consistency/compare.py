"""Algorithm 1: mask the input with one map, compute the other again, correlate the two."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
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
from atcon.consistency.comparison import Comparison, Pair
from atcon.consistency.masks import squashed
from atcon.consistency.matching import upsampled
from atcon.consistency.stochastic import Draws, mask_of
from atcon.consistency.teacher import Teacher
from atcon.errors import InputError
from atcon.types import Classes, Images, Target


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
    draws: Draws | None = None,
    also: Sequence[str] = (),
    create_graph: bool = False,
    teacher: Teacher | None = None,
) -> Comparison:
    """Run Algorithm 1 on a batch: one traced pass, and one more for every mask.

    With `mirror` of the method the second pass sees the mirrored masked images, and its maps are
    mirrored back: h(A_i(x), flip A_i(flip(P x))), flip along the last axis. With a teacher t the
    first pass is its own, without a gradient: h(A_i(t, x), A_i(f, P x)), P of A_j(t, x).

    Args:
        model: Any network that the maps can explain; left as it was.
        images: A normalised batch; masks multiply it, so masked pixels go to the mean colour.
        layers: The layers to explain, by name; with several, each is compared and the mean taken.
        method: The maps, and how they are compared.
        target: What to explain; None for the top predicted class.
        draws: Of the masks, a column for each of A_2, A_3, ...; None takes the middle of ranges.
        also: Names of further maps of the unmasked images to keep in `maps`.
        create_graph: Whether the correlation can be differentiated with respect to the weights.
        teacher: Gives the class, the first maps and the masks; None: the model itself.

    Raises:
        InputError: A map that cannot be differentiated is asked for its gradient, a map cannot be
            computed, or a teacher is given where nothing is masked.
    """
    if teacher is not None:
        method = method.taught()
    _check_differentiable(method, create_graph=create_graph)
    images = recordable(images)
    folds = Folds({}) if method.batch_statistics else None
    pairs = _pairs(method, list(layers))
    masked_logits: list[Tensor] = []
    own = create_graph and teacher is None
    first = teacher or Teacher(model, layers)
    with batch_statistics(used=method.batch_statistics):
        plain = trace(first.model, images, [*first.layers.values()], folds=folds)
        classes = choose_classes(plain.logits, target)
        graph = _with_graph(pairs, method) if own else set()
        maps = {
            node: node.of(plain, classes, create_graph=node in graph)
            for node in dict.fromkeys([*(node for pair in pairs for node in pair), *_more(also)])
        }
        logits = plain.logits if own else plain.logits.detach()
        activations, folds = plain.rule.guided, folds if teacher else plain.folds
        del plain  # without a graph to keep, its activations are freed before the next pass

        def again(p: Tensor) -> Trace:
            with without_autocast(images.device):
                masked = p[:, None].to(images.dtype) * images
            run = trace(model, method.seen(masked), [*layers.values()], folds=folds)
            masked_logits.append(run.logits if create_graph else run.logits.detach())
            return run

        if method.matching.by == "mask":
            masks = _masks(maps, pairs, method, images, draws or {})
            measured = _measured(masks, pairs, classes, again, create_graph=create_graph)
            found = {(i, j): (maps[i], method.seen(second)) for (i, j), second in measured}
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
    again_logits = tuple(masked_logits)
    return Comparison(logits, classes, by_name, seen, correlation, activations, again_logits)


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
    draws: Draws,
) -> dict[_Node, Tensor]:
    """Turn every masking map into P at the images' resolution (Eq. 6)."""
    masks = {}
    columns = [name for name, _ in method.maps[1:]]
    with without_autocast(images.device):
        for node in dict.fromkeys(j for _, j in pairs):
            values = maps[node].detach() if method.detach_mask else maps[node]
            own = {kind: drawn[:, columns.index(node.name)] for kind, drawn in draws.items()}
            fine = upsampled(values, tuple(images.shape[2:]))
            masks[node] = mask_of(fine, method.mask, method.mask_options, own)
    return masks


def _measured(
    masks: dict[_Node, Tensor],
    pairs: _Pairs,
    classes: Classes,
    again: Callable[[Tensor], Trace],
    *,
    create_graph: bool,
) -> Iterator[tuple[tuple[_Node, _Node], Tensor]]:
    """Measure on the images that A_j masked every map before it, with one pass for each mask."""
    for j, p in masks.items():
        run = again(p)
        for i in dict.fromkeys(i for i, other in pairs if other == j):
            yield (i, j), i.of(run, classes, create_graph=create_graph)


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
