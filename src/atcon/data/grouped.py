"""Parts of a data set in which every group stays whole, of the sizes and classes asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atcon.errors import InputError

_STARTS = 20
_MOVES = 20_000  # groups times starts: a large set needs less luck
_MISSING = 10.0
_OF_GROUPS = 0.5  # what a share of a class's groups weighs beside one of its samples


@dataclass(frozen=True)
class Balance:
    """A division of groups, and how well it meets its aim.

    Attributes:
        parts: The part of every group.
        shares: Share of all samples that each part has.
        class_shares: Share of each class's samples that each part has, `{part: (one per class)}`.
        worst: The largest distance of a part's share of a class, or of all samples, from the aim.
    """

    parts: dict[str, str]
    shares: dict[str, float]
    class_shares: dict[str, tuple[float, ...]]
    worst: float


def balanced_parts(
    groups: Sequence[str],
    labels: Sequence[Sequence[int]],
    shares: Mapping[str, float],
    *,
    classes: int,
    seed: int,
) -> Balance:
    """Divide groups among parts so that each has its share of all samples and of every class.

    Of a class, both its samples and its groups are shared out: one patient with a third of all
    clips would otherwise be all that a part knows of a class.

    A seeded search: from several random orders, each group goes where it helps most, and then
    moves, or changes places, as long as that helps. The sum of squared distances from the shares is
    made small, and a class missing in a part costs more than any distance.

    Args:
        groups: The group of every sample.
        labels: The classes of every sample.
        shares: Of each part; they add up to 1.
        classes: How many classes there are.
        seed: Of the search.

    Raises:
        InputError: There are fewer groups than parts, or the shares are none.
    """
    if min(shares.values(), default=0.0) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"shares of the parts must be above 0 and add up to 1: {dict(shares)}")
    names = sorted(set(groups))
    if len(names) < len(shares):
        raise InputError(
            f"{len(names)} groups cannot be divided among {len(shares)} parts "
            f"({', '.join(shares)}); each part needs at least one"
        )
    counts = _counts(names, groups, labels, classes)
    aim = np.array(list(shares.values()))
    generator = np.random.default_rng([seed, 6])
    starts = max(1, min(_STARTS, _MOVES // len(names)))
    present = counts[:, 1:] > 0
    groups_of = present / np.maximum(present.sum(axis=0), 1)
    weights = np.repeat([1.0, _OF_GROUPS], [counts.shape[1], classes])
    weighed, aims = weights * np.hstack([counts, groups_of]), weights * aim[:, None]
    found = [_search(weighed, aims, generator) for _ in range(starts)]
    best = min(found, key=lambda assigned: _cost(_filled(weighed, assigned, len(aim)), aims))
    return _balance(names, counts, best, tuple(shares), aim)


def _counts(
    names: Sequence[str], groups: Sequence[str], labels: Sequence[Sequence[int]], classes: int
) -> np.ndarray:
    """Give each group's share of all samples and of every class, `[group, 1 + class]`."""
    row_of = {name: row for row, name in enumerate(names)}
    counts = np.zeros((len(names), 1 + classes))
    for group, held in zip(groups, labels, strict=True):
        counts[row_of[group], [0, *(1 + label for label in held)]] += 1
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1))


def _search(counts: np.ndarray, aim: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Place the groups, large ones early, and improve until nothing helps."""
    eager = counts.sum(axis=1) * generator.uniform(0.5, 1.5, len(counts))
    assigned = np.full(len(counts), -1)
    filled = np.zeros((len(aim), counts.shape[1]))
    for group in np.argsort(-eager, kind="stable"):
        assigned[group] = _best_part(filled, counts[group], aim)
        filled[assigned[group]] += counts[group]
    improved = True
    while improved:
        improved = False
        for group in generator.permutation(len(counts)):
            here = assigned[group]
            filled[here] -= counts[group]
            there = _best_part(filled, counts[group], aim, stay=here)
            filled[there] += counts[group]
            improved |= there != here
            assigned[group] = there
    return _swapped(counts, assigned, aim)


def _swapped(counts: np.ndarray, assigned: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """Let pairs of groups change places where that helps; not in sets of thousands of groups."""
    if len(counts) > 300:
        return assigned
    cost = _cost(_filled(counts, assigned, len(aim)), aim)
    for one in range(len(counts)):
        for two in range(one):
            if assigned[one] == assigned[two]:
                continue
            assigned[[one, two]] = assigned[[two, one]]
            changed = _cost(_filled(counts, assigned, len(aim)), aim)
            if changed < cost - 1e-12:
                cost = changed
            else:
                assigned[[one, two]] = assigned[[two, one]]
    return assigned


def _best_part(
    filled: np.ndarray, group: np.ndarray, aim: np.ndarray, stay: int | None = None
) -> int:
    """Give the part where a group helps most; `stay` unless another is really better."""
    before = _costs(filled, aim)
    change = _costs(filled + group, aim) - before
    best = int(change.argmin())
    return best if stay is None or change[best] < change[stay] - 1e-12 else stay


def _costs(filled: np.ndarray, aim: np.ndarray) -> np.ndarray:
    distance = ((filled - aim) ** 2).sum(axis=1)
    return np.asarray(distance + _MISSING * (filled <= 0).sum(axis=1))


def _cost(filled: np.ndarray, aim: np.ndarray) -> float:
    return float(_costs(filled, aim).sum())


def _filled(counts: np.ndarray, assigned: np.ndarray, parts: int) -> np.ndarray:
    return np.array([counts[assigned == part].sum(axis=0) for part in range(parts)])


def _balance(
    names: Sequence[str],
    counts: np.ndarray,
    assigned: np.ndarray,
    parts: Sequence[str],
    aim: np.ndarray,
) -> Balance:
    filled = _filled(counts, assigned, len(parts))
    known = counts.sum(axis=0) > 0
    return Balance(
        parts={name: parts[part] for name, part in zip(names, assigned, strict=True)},
        shares={part: float(row[0]) for part, row in zip(parts, filled, strict=True)},
        class_shares={
            part: tuple(map(float, row[1:])) for part, row in zip(parts, filled, strict=True)
        },
        worst=float(np.abs(filled - aim[:, None])[:, known].max()),
    )
