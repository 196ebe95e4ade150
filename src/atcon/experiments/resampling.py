"""What intervals are taken over: resamples of the test images, or of their whole groups."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import resample_weights


def named_groups(images: Iterable[tuple[str, str | None]]) -> list[str] | None:
    """Give the group of every image as `groups_of` does, also where there is one group only."""
    images = list(images)
    if all(group is None for _, group in images):
        return None
    return [f"image {name}" if group is None else f"group {group}" for name, group in images]


def groups_of(images: Iterable[tuple[str, str | None]]) -> list[str] | None:
    """Give the group of every test image, or None where no image has one.

    Args:
        images: Name and group of each; where others have one, an image without is a group of its
            own.

    Raises:
        InputError: All are of one group, which leaves nothing to resample.
    """
    images = list(images)
    groups = named_groups(images)
    if groups is not None and len(set(groups)) == 1:
        raise InputError(
            f"the whole test part is of one group ({images[0][1]}): intervals resample "
            f"whole groups and need two or more; put more groups into the test part"
        )
    return groups


def weights_for(count: int, groups: list[str] | None, resamples: int, seed: int) -> np.ndarray:
    """Give the resamples that every metric and every gain of a run share.

    Args:
        count: How many test images there are.
        groups: What `groups_of` gave.
        resamples: How many.
        seed: Of the run.
    """
    generator = np.random.default_rng([seed, 2])
    return resample_weights(count, resamples, seed=generator, groups=groups)


def resampled_record(groups: list[str] | None) -> dict[str, Any]:
    """Say what was resampled, and how many groups there are among the test images."""
    if groups is None:
        return {"resampled": "images", "test_groups": None}
    return {"resampled": "groups", "test_groups": len(set(groups))}
