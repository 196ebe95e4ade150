"""The data set under the check: what was read of it once, and which image is in which part."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from atcon.data.checks.finding import counted
from atcon.data.checks.look import Look
from atcon.data.few_shot import Split
from atcon.data.image_set import ImageSet
from atcon.types import Example

TRAIN, VALIDATION, TEST, UNLABELLED = "train", "validation", "test", "unlabelled"
_TOGETHER = {TRAIN, UNLABELLED}
"""Parts that may share images: unlabelled images are trained on as well."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image in its place.

    Attributes:
        example: The image.
        part: The part of the data set that it is in; "train" is what a split is drawn from.
        seen: What was read of it, or why it cannot be read.
    """

    example: Example
    part: str
    seen: Look | str

    @property
    def name(self) -> str:
        """The name with the part, for lists that hold images of several parts."""
        return f"{self.example.name} ({self.part})"


@dataclass(frozen=True)
class Subject:
    """A data set, read.

    Attributes:
        image_set: The data set.
        entries: Every image of every part.
        split: What a run would train on, choose by and be judged on; None where none was asked for.
        refused: Why that cannot be drawn.
        ends_run: Whether a run ends at an image that cannot be used, instead of leaving it out.
    """

    image_set: ImageSet
    entries: tuple[Entry, ...]
    split: Split | None = None
    refused: str | None = None
    ends_run: bool = False

    @property
    def unit(self) -> str:
        """What its samples are called: images or clips."""
        return self.image_set.unit

    def counted(self, samples: int) -> str:
        """Say how many samples: 1 image, 2 clips."""
        return counted(samples, self.unit.removesuffix("s"))

    @cached_property
    def readable(self) -> tuple[tuple[Entry, Look], ...]:
        """The images that could be read."""
        return tuple((e, e.seen) for e in self.entries if isinstance(e.seen, Look))

    @cached_property
    def labelled(self) -> tuple[Entry, ...]:
        """The images whose labels are used."""
        return tuple(entry for entry in self.entries if entry.part != UNLABELLED)

    @cached_property
    def drawn(self) -> dict[str, str]:
        """The part of the split that an image was drawn for, by name."""
        if self.split is None:
            return {}
        parts = {TRAIN: self.split.train, VALIDATION: self.split.validation, TEST: self.split.test}
        return {example.name: part for part, examples in parts.items() for example in examples}

    def labels(self, example: Example) -> str:
        """The names of an image's classes."""
        return " and ".join(self.image_set.classes[label] for label in example.labels) or "none"

    def apart(self, entries: Sequence[Entry]) -> bool:
        """Whether images are in parts between which nothing may be shared.

        Either the data set itself separates them, or the split that was drawn does.
        """
        declared = {entry.part for entry in entries}
        drawn = {self.drawn.get(entry.example.name) for entry in entries} - {None}
        return (len(declared) > 1 and not declared <= _TOGETHER) or len(drawn) > 1

    def placed(self, entries: Sequence[Entry]) -> list[str]:
        """Names with the part that an image was drawn for, or else is in."""
        return [
            f"{entry.example.name} ({self.drawn.get(entry.example.name, entry.part)})"
            for entry in entries
        ]
