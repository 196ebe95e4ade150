"""A data set before any image or clip is decoded: names, labels, boxes, and how to read one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from atcon.data.describe import LengthTable
from atcon.types import Example, Pixels


@dataclass(frozen=True)
class ImageSet:
    """The images, or the clips, of one data set.

    Attributes:
        name: As in the configuration.
        classes: The names that `Example.labels` point at.
        multi_label: Several classes may hold for one image (sigmoid), or exactly one (soft-max).
        pool: Training images, from which the few-shot and the validation images are drawn.
        test: Opened once, at the end.
        read: Gives one image as uint8 RGB [3, H, W], or one clip as [3, T, H, W]; raises
            `BadImageError`.
        validation: Where the set itself has validation images; otherwise they come from the pool.
        skipped: Name and reason of every image left out while indexing.
        notes: Name and remark of images that were kept with a repair, such as a clipped box.
        root: The folder, or None for images that are composed at run time.
        frames: Of every clip; None for images.
        rate: Frames per second of a clip; None for images.
        described: How many clips of what length there are, by part; None where that is not known.
    """

    name: str
    classes: tuple[str, ...]
    multi_label: bool
    pool: tuple[Example, ...]
    test: tuple[Example, ...]
    read: Callable[[Example], Pixels]
    validation: tuple[Example, ...] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    root: Path | None = None
    frames: int | None = None
    rate: float | None = None
    described: Mapping[str, LengthTable] | None = None

    @property
    def unit(self) -> str:
        """What its samples are called: images or clips."""
        return "images" if self.frames is None else "clips"

    def shape(self, size: int) -> tuple[int, ...]:
        """Give the shape of one sample of this side: `[3, size, size]`, with frames in between."""
        return (3, size, size) if self.frames is None else (3, self.frames, size, size)
