"""The parts of a user's images: as they are given, or with test images drawn."""

from collections.abc import Sequence

import numpy as np

from atcon.data.grouped import balanced_parts
from atcon.data.rows import Row
from atcon.errors import InputError


def parts_of(
    rows: Sequence[Row], classes: int, where: object, *, test_fraction: float, seed: int
) -> tuple[list[str], str | None]:
    """Give the part of every row, and a remark on how groups were divided.

    Where no split is given, a part of `test_fraction` is drawn, stratified by the labels; of rows
    that have groups, whole groups are drawn.

    Args:
        rows: All of a data set.
        classes: How many there are.
        where: The data set, for the messages.
        test_fraction: Of the images, between 0 and 1.
        seed: Of the draw.

    Raises:
        InputError: A part is empty, or there are fewer than two groups.
    """
    parts: list[str] = [row.part for row in rows if row.part is not None]
    remark = None
    if not parts:
        if not 0 < test_fraction < 1:
            raise InputError(f"data.test_fraction: {test_fraction} is not between 0 and 1")
        if any(row.group is not None for row in rows):
            parts, remark = _drawn_groups(rows, classes, test_fraction, seed)
        else:
            parts = _drawn_rows(rows, test_fraction, seed)
    for part in ("train", "test"):
        if part not in parts:
            raise InputError(
                f"{where}: no images in the {part} part; both train and test need some"
            )
    return parts, remark


def _drawn_rows(rows: Sequence[Row], test_fraction: float, seed: int) -> list[str]:
    """Draw the test images: with the rows shuffled within equal labels, every 1/fraction-th one."""
    generator = np.random.default_rng([seed, 2])
    by_name = sorted(range(len(rows)), key=lambda i: rows[i].name)
    shuffled = [by_name[i] for i in generator.permutation(len(rows))]
    ordered = sorted(shuffled, key=lambda i: rows[i].labels)
    parts = ["train"] * len(rows)
    steps = np.floor(np.arange(len(rows) + 1) * test_fraction + generator.random())
    for place in np.flatnonzero(np.diff(steps)):
        parts[ordered[place]] = "test"
    return parts


def _drawn_groups(
    rows: Sequence[Row], classes: int, test_fraction: float, seed: int
) -> tuple[list[str], str]:
    """Draw whole groups, so that the test part has its share of the images and of every class."""
    groups = [f"image {row.name}" if row.group is None else f"group {row.group}" for row in rows]
    shares = {"train": 1 - test_fraction, "test": test_fraction}
    try:
        found = balanced_parts(
            groups, [row.labels for row in rows], shares, classes=classes, seed=seed
        )
    except InputError as error:
        raise InputError(f"data.group: {error}") from None
    drawn = sum(part == "test" for part in found.parts.values())
    low, high = min(found.class_shares["test"]), max(found.class_shares["test"])
    remark = (
        f"the test part is {drawn} of {len(found.parts)} groups, which hold "
        f"{found.shares['test']:.0%} of the images and {low:.0%} to {high:.0%} of each class"
    )
    return [found.parts[group] for group in groups], remark
