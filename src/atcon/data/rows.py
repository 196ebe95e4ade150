"""One image of a user's data before it is known in which part it ends."""

from dataclasses import dataclass

PART_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a table or folder.

    Attributes:
        name: Path relative to the root, with forward slashes.
        labels: Indices into the classes, sorted.
        part: train, validation, test, or None where no split is given.
        group: Whom or what it was taken of, or None where that is not given.
    """

    name: str
    labels: tuple[int, ...]
    part: str | None = None
    group: str | None = None
