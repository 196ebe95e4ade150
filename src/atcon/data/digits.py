"""The embedded data set: handwritten digits on photographs, composed at run time, no files.

A scene is a crop of one of scikit-learn's photographs with one to three of its handwritten digits
on it, in the way of which stand strokes and fragments of other digits. The digits are ordered by
writer, so contiguous blocks of them give the parts of the data disjoint handwriting. Each scene
depends on (seed, part, index) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atcon.data.image_set import ImageSet
from atcon.errors import InputError
from atcon.types import Box, Example, Pixels

Levels = NDArray[np.floating]

SIDE = 64
"""Height and width of a scene."""
MAX_DIGITS = 3
"""Digits in a scene: 1 to this many."""
DIGIT_SIDES = (22, 32)
"""Side of the square that a digit's 8x8 pixels are spread on."""
MAX_TURN = 8.0
"""Degrees, either way."""
CONTRAST = (0.5, 0.9)
"""Distance of the ink from the mean colour below it, of full scale: lower is harder."""
STROKES = (0, 2)
"""Distracting strokes over a scene, at least and at most: more is harder."""
FRAGMENTS = (0, 1)
"""Distracting quarters of other digits, at least and at most: more is harder."""
MAX_OVERLAP = 0.1
"""Part of the smaller of two digits' boxes that may be covered by the other."""
NOISE = 0.02
"""Standard deviation of the pixel noise, of full scale."""


@dataclass(frozen=True)
class Task:
    """Which digits, in whose handwriting.

    Attributes:
        classes: The digits.
        writers: Start and end of the block of scikit-learn's digits, per part.
    """

    classes: tuple[int, ...]
    writers: dict[str, tuple[int, int]]


TASKS = {
    "few_shot": Task(
        (5, 6, 7, 8, 9), {"train": (900, 1200), "validation": (1200, 1450), "test": (1450, 1797)}
    ),
    "source": Task((0, 1, 2, 3, 4), {"train": (0, 750), "validation": (750, 900)}),
}
"""The source task plays the role of ImageNet: other digits by other writers."""

_PARTS = ("train", "validation", "test")


def digits(
    task: str = "few_shot",
    *,
    pool: int = 400,
    validation: int = 150,
    test: int = 400,
    seed: int = 0,
) -> ImageSet:
    """Compose the digits data set: five of the ten digits, several per scene, multi-label.

    Args:
        task: One of `TASKS`; the source task has no test part.
        pool: Scenes to draw the training images from.
        validation: Scenes.
        test: Scenes.
        seed: Of the scenes.
    """
    if task not in TASKS:
        raise InputError(f"digits: {task!r} is no task; use one of {', '.join(TASKS)}")
    counts = {"train": pool, "validation": validation, "test": test}
    examples = {
        part: tuple(_example(task, part, index, seed) for index in range(counts[part]))
        for part in TASKS[task].writers
    }
    return ImageSet(
        name="digits",
        classes=tuple(str(digit) for digit in TASKS[task].classes),
        multi_label=True,
        pool=examples["train"],
        test=examples.get("test", ()),
        read=lambda example: _read(task, seed, example),
        validation=examples["validation"],
    )


def digits_source(*, pool: int = 4000, validation: int = 400, seed: int = 0) -> ImageSet:
    """Compose the source task, on which the demo's network is pretrained."""
    return digits("source", pool=pool, validation=validation, test=0, seed=seed)


@dataclass(frozen=True)
class _Glyph:
    """A digit in its place: opacity of its ink on the square at (left, top)."""

    label: int
    ink: Levels
    left: int
    top: int


def _example(task: str, part: str, index: int, seed: int) -> Example:
    glyphs = _layout(task, part, _generator(task, part, index, seed))
    boxes = tuple(_box(glyph) for glyph in glyphs)
    labels = tuple(sorted({glyph.label for glyph in glyphs}))
    return Example(f"{part}-{index:05d}", labels, boxes)


def _read(task: str, seed: int, example: Example) -> Pixels:
    part, _, index = example.name.partition("-")
    generator = _generator(task, part, int(index), seed)
    glyphs = _layout(task, part, generator)
    return _compose(glyphs, _distractors(task, part, generator), generator)


def _generator(task: str, part: str, index: int, seed: int) -> np.random.Generator:
    key = [seed, list(TASKS).index(task), _PARTS.index(part), index]
    return np.random.default_rng(key)


def _layout(task: str, part: str, generator: np.random.Generator) -> list[_Glyph]:
    """Place one to three digits so that they hardly overlap."""
    glyphs: list[_Glyph] = []
    boxes: list[Box] = []
    count = int(generator.integers(1, MAX_DIGITS + 1))
    for _ in range(8 * count):
        label = int(generator.integers(len(TASKS[task].classes)))
        glyph = _glyph(task, part, label, generator)
        box = _box(glyph)
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            glyphs.append(glyph)
            boxes.append(box)
        if len(glyphs) == count:
            break
    return glyphs


def _glyph(task: str, part: str, label: int, generator: np.random.Generator) -> _Glyph:
    """Write one digit, turned and scaled, at a random place that is wholly inside."""
    block = _writing(task, part)[label]
    written = block[generator.integers(len(block))]
    side = int(generator.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
    turn = float(generator.uniform(-MAX_TURN, MAX_TURN))
    large = Image.fromarray(written).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.asarray(large.rotate(turn, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    ink = np.clip((ink - 0.3) * 2.5, 0, 1)
    left, top = generator.integers(0, SIDE - side + 1, size=2)
    return _Glyph(label, ink, int(left), int(top))


def _box(glyph: _Glyph) -> Box:
    """Give the box around the ink."""
    inked = glyph.ink > 0.2
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return Box(
        glyph.label,
        (glyph.left + int(columns[0])) / SIDE,
        (glyph.top + int(rows[0])) / SIDE,
        (glyph.left + int(columns[-1]) + 1) / SIDE,
        (glyph.top + int(rows[-1]) + 1) / SIDE,
    )


def _overlap(one: Box, two: Box) -> float:
    width = min(one.right, two.right) - max(one.left, two.left)
    height = min(one.bottom, two.bottom) - max(one.top, two.top)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (one, two)]
    return max(width, 0) * max(height, 0) / min(areas)


def _distractors(task: str, part: str, generator: np.random.Generator) -> list[_Glyph]:
    """Cut quarters out of digits, which are no digits any more."""
    fragments = []
    for _ in range(generator.integers(FRAGMENTS[0], FRAGMENTS[1] + 1)):
        label = int(generator.integers(len(TASKS[task].classes)))
        glyph = _glyph(task, part, label, generator)
        half = len(glyph.ink) // 2
        row, column = generator.integers(0, half, size=2)
        ink = glyph.ink[row : row + half, column : column + half]
        fragments.append(_Glyph(label, ink, glyph.left, glyph.top))
    return fragments


def _compose(
    glyphs: Sequence[_Glyph], distractors: Sequence[_Glyph], generator: np.random.Generator
) -> Pixels:
    scene = _background(generator)
    for glyph in (*distractors, *glyphs):
        _write(scene, glyph, generator)
    _strike(scene, generator)
    scene += NOISE * generator.standard_normal(scene.shape, dtype=np.float32)
    pixels = (scene.clip(0, 1) * 255).round().astype(np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _background(generator: np.random.Generator) -> Levels:
    photographs = _photographs()
    photograph = photographs[generator.integers(len(photographs))]
    side = int(generator.integers(SIDE, 3 * SIDE))
    left = int(generator.integers(photograph.width - side))
    top = int(generator.integers(photograph.height - side))
    crop = photograph.resize(
        (SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
    )
    scene = np.asarray(crop, dtype=np.float32) / 255
    return scene[:, ::-1].copy() if generator.random() < 0.5 else scene.copy()


def _write(scene: Levels, glyph: _Glyph, generator: np.random.Generator) -> None:
    """Lay the ink over the scene, lighter or darker than what is below, in a random tint."""
    height, width = glyph.ink.shape
    below = scene[glyph.top : glyph.top + height, glyph.left : glyph.left + width]
    mean = below.mean((0, 1))
    contrast = generator.uniform(*CONTRAST)
    up = generator.random() < 1 - mean.mean()
    tint = generator.uniform(-0.15, 0.15, 3)
    colour = np.clip(mean + (contrast if up else -contrast) + tint, 0, 1).astype(np.float32)
    opacity = glyph.ink[..., None]
    below += opacity * (colour - below)


def _strike(scene: Levels, generator: np.random.Generator) -> None:
    """Draw straight strokes over the scene, digits included."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for _ in range(generator.integers(STROKES[0], STROKES[1] + 1)):
        angle, row, column = generator.uniform(0, (np.pi, SIDE, SIDE))
        across = np.abs((rows - row) * np.cos(angle) - (columns - column) * np.sin(angle))
        along = np.abs((rows - row) * np.sin(angle) + (columns - column) * np.cos(angle))
        stroke = (across < generator.uniform(0.6, 1.4)) & (along < generator.uniform(6, 16))
        scene[stroke] = generator.uniform(0, 1, 3)


@lru_cache(maxsize=1)
def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - slow to import

    return [Image.fromarray(photograph) for photograph in load_sample_images().images]


@lru_cache(maxsize=8)
def _writing(task: str, part: str) -> list[NDArray[np.uint8]]:
    """Give the written digits of a part, 0..255 [n, 8, 8], by label."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - as above

    written = load_digits()
    start, end = TASKS[task].writers[part]
    images = np.round(written.images[start:end] * 255 / 16).astype(np.uint8)
    targets = written.target[start:end]
    return [images[targets == digit] for digit in TASKS[task].classes]
