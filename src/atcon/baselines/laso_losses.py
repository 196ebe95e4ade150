"""The label sets of LaSO, the expressions made of two of them, and a loss for every law."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from atcon.baselines.features import Features
from atcon.baselines.laso_networks import LaSO
from atcon.errors import InputError

Labels = Float[Tensor, "batch class"]
Operation = Callable[[Tensor, Tensor], Tensor]


def union(a: Labels, b: Labels) -> Labels:
    """Give the labels of either set; 0 or 1 for each class."""
    return torch.maximum(a, b)


def intersection(a: Labels, b: Labels) -> Labels:
    """Give the labels of both sets."""
    return torch.minimum(a, b)


def subtraction(a: Labels, b: Labels) -> Labels:
    """Give the labels of the first set that are not in the second."""
    return torch.minimum(a, 1 - b)


OPERATIONS: dict[str, Operation] = {
    "union": union,
    "intersection": intersection,
    "subtraction": subtraction,
}
"""What each network of `LaSO.operations` shall do to the label sets."""

TAUTOLOGIES = (
    ("(a - b) - b", "a - b"),
    ("(b - a) - a", "b - a"),
    ("a - (a & b)", "a - b"),
    ("b - (b & a)", "b - a"),
    ("a - (b & a)", "a - b"),
    ("b - (a & b)", "b - a"),
    ("(a & b) & b", "a & b"),
    ("(b & a) & a", "b & a"),
    ("(a | b) | b", "a | b"),
    ("(b | a) | a", "b | a"),
)
SYMMETRIES = (("b & a", "a & b"), ("b | a", "a | b"))
RECONSTRUCTIONS = (("(a - (b & a)) | (a & b)", "a"), ("(b - (a & b)) | (b & a)", "b"))
LAWS = {"tautology": TAUTOLOGIES, "symmetry": SYMMETRIES, "reconstruction": RECONSTRUCTIONS}
"""Pairs of expressions that are equal as sets, so their features shall be, by the kind of law.

The authors' code asks this of all but the tautologies of & and |, which it only classifies.
"""


_ORDERS = (("a", "b"), ("b", "a"))


def simple_expressions(
    operations: Mapping[str, Operation], a: Tensor, b: Tensor
) -> dict[str, Tensor]:
    """Evaluate a, b and every operation on them, with networks on features or with sets of labels.

    Args:
        operations: Under the names of `OPERATIONS`.
        a: `[batch, feature]` or `[batch, class]`.
        b: As `a`.

    Returns:
        By its name, which is the expression as Python writes it for sets.
    """
    uni, both, sub = (operations[name] for name in OPERATIONS)
    found = {"a": a, "b": b}
    for p, q in _ORDERS:
        found[f"{p} - {q}"] = sub(found[p], found[q])
        found[f"{p} & {q}"] = both(found[p], found[q])
        found[f"{p} | {q}"] = uni(found[p], found[q])
    return found


def nested_expressions(
    operations: Mapping[str, Operation], simple: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Evaluate the expressions that operate on the `simple` ones, named likewise."""
    uni, both, sub = (operations[name] for name in OPERATIONS)
    found = {}
    for p, q in _ORDERS:
        minus, meet, join = (simple[f"{p} {sign} {q}"] for sign in "-&|")
        found[f"({p} - {q}) - {q}"] = sub(minus, simple[q])
        found[f"({p} & {q}) & {q}"] = both(meet, simple[q])
        found[f"({p} | {q}) | {q}"] = uni(join, simple[q])
        found[f"{p} - ({p} & {q})"] = sub(simple[p], meet)
        rest = found[f"{p} - ({q} & {p})"] = sub(simple[p], simple[f"{q} & {p}"])
        found[f"({p} - ({q} & {p})) | ({p} & {q})"] = uni(rest, meet)
    return found


def laso_losses(
    laso: LaSO, a: Features, b: Features, labels_a: Labels, labels_b: Labels
) -> dict[str, Tensor]:
    """Give every loss of the method, each with weight 1 (Alfassy et al., CVPR 2019).

    Every expression, the real features among them, is classified with its label set (binary
    cross-entropy, mean over images and classes), and both sides of every law are the same feature
    (mean squared error).

    In training mode BatchNorm's running statistics follow the pairs of real features alone: what
    is used later, in evaluation mode, are operations on real features, and made ones are
    distributed otherwise. With the statistics of all calls mixed, as in the authors' code, unions
    can come out wrong although every training loss is small.

    Args:
        laso: In training mode, or in evaluation mode for a measurement.
        a: Features of the first images, `[batch, feature]`.
        b: Of their partners.
        labels_a: `[batch, class]`, 0 or 1.
        labels_b: As `labels_a`.

    Returns:
        Scalars by name: "classification: EXPRESSION", or "LAW: EXPRESSION = EXPRESSION".

    Raises:
        InputError: Features or labels have the wrong shape, labels are not 0 or 1, or a batch of
            one is to be trained on.
    """
    for features, labels in ((a, labels_a), (b, labels_b)):
        check_features(laso, features, labels)
    if len(a) != len(b):
        raise InputError(f"LaSO compares pairs, but got {len(a)} features and {len(b)} partners")
    if laso.training and len(a) < 2:
        raise InputError("LaSO trains BatchNorm on the batch: give it at least two pairs of images")
    made = simple_expressions(laso.operations, a, b)
    wanted = simple_expressions(OPERATIONS, labels_a.to(a.dtype), labels_b.to(a.dtype))
    with _running_statistics_kept(laso):
        made |= nested_expressions(laso.operations, made)
    wanted |= nested_expressions(OPERATIONS, wanted)
    losses = {
        f"classification: {name}": functional.binary_cross_entropy_with_logits(
            laso(made[name]), wanted[name]
        )
        for name in made
    }
    for law, pairs in LAWS.items():
        for left, right in pairs:
            losses[f"{law}: {left} = {right}"] = functional.mse_loss(made[left], made[right])
    return losses


@contextmanager
def _running_statistics_kept(laso: LaSO) -> Iterator[None]:
    """Let BatchNorm use the statistics of the batch without moving the running ones."""
    norms = [module for module in laso.modules() if isinstance(module, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def check_features(laso: LaSO, features: Tensor, labels: Tensor) -> None:
    """Refuse features that the networks cannot take, or labels that are no sets.

    Raises:
        InputError: Says which shape or value was found, and which is needed.
    """
    if features.shape != (len(labels), laso.features):
        raise InputError(
            f"LaSO takes features of shape ({len(labels)}, {laso.features}) for {len(labels)} "
            f"rows of labels, but they have {tuple(features.shape)}"
        )
    if labels.shape != (len(features), laso.classes):
        raise InputError(
            f"LaSO takes labels of shape ({len(features)}, {laso.classes}), but they have "
            f"{tuple(labels.shape)}"
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise InputError("LaSO combines label sets: every label must be 0 or 1")
