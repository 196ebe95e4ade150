"""Pairs of images that look alike, without comparing every image with every other."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 64
MOST_BITS = 8
"""Bits in which the hashes of two similar images differ, at most.

240 photographs and crops of 60 pixels, saved at quality 50, at half size, squashed to 64 pixels or
darkened: 6 at most; without 2 % of each edge: 10. Different photographs: 16 at least.
"""
MOST_PAIRS = 500_000
"""A search ends there: images so much alike cannot be told apart by such hashes."""

_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]


def close_pairs(hashes: Hashes, most: int = MOST_BITS, limit: int = MOST_PAIRS) -> Pairs:
    """Find all pairs of hashes that differ in `most` bits or fewer, `[pair, 2]`, first < second.

    The bits are cut into `most` + 1 bands. Two such hashes are equal in one band at least, so only
    hashes that share a band are compared. Nothing is missed; 2,608 photographs take a tenth of a
    second, 100,000 take eighteen.

    Args:
        hashes: One for each image.
        most: Differing bits, at most.
        limit: The search ends when it has found so many pairs.
    """
    edges = np.linspace(0, BITS, most + 2).astype(int)
    found = np.empty((0, 2), dtype=np.int64)
    for low, high in pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        bands = (hashes >> np.uint64(low)) & mask
        for first, second in _equal(bands):
            near = distance(hashes[first], hashes[second]) <= most
            pairs = np.sort(np.stack([first[near], second[near]], axis=1), axis=1)
            found = np.concatenate([found, pairs])
            if len(found) > limit:
                found = np.unique(found, axis=0)
                if len(found) > limit:
                    return found[:limit]
    return np.unique(found, axis=0)


def distance(one: Hashes, other: Hashes) -> NDArray[np.int64]:
    """Count the bits in which hashes differ."""
    words = np.ascontiguousarray(one ^ other).view(np.uint16).reshape(-1, BITS // 16)
    return np.asarray(_ONES[words].sum(axis=1, dtype=np.int64))


def _equal(values: NDArray[Any]) -> Iterator[tuple[Pairs, Pairs]]:
    """Give all pairs of positions with equal values, in pieces of n pairs at most.

    Equal values stand side by side once sorted; step k compares each with the k-th after it, and
    those that already differed at step k - 1 differ at k, too.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    alive = np.arange(len(values))
    for step in range(1, len(values)):
        alive = alive[alive + step < len(values)]
        alive = alive[ordered[alive] == ordered[alive + step]]
        if not len(alive):
            return
        yield order[alive], order[alive + step]


def differences(
    thumbnails: NDArray[np.uint8], pairs: Pairs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare the thumbnails `[image, channel, row, column]` of pairs.

    Returns:
        The root mean square difference, in levels, and the correlation of their brightness.
    """
    levels, correlations = [np.empty(0)], [np.empty(0)]
    for start in range(0, len(pairs), 4096):
        both = thumbnails[pairs[start : start + 4096]].astype(np.float64)
        levels.append(np.sqrt(((both[:, 0] - both[:, 1]) ** 2).mean(axis=(1, 2, 3))))
        grey = both.mean(axis=2).reshape(len(both), 2, -1)
        grey -= grey.mean(axis=2, keepdims=True)
        one, other = grey[:, 0], grey[:, 1]
        scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        correlations.append((one * other).sum(axis=1) / np.maximum(scale, 1e-9))
    return np.concatenate(levels), np.concatenate(correlations)


def alike(keys: Sequence[object]) -> list[list[int]]:
    """Give the positions of every key that occurs more than once, in order."""
    places: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return [found for found in places.values() if len(found) > 1]
