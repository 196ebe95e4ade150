"""Tiny runs of the whole pipeline, the command line as a user calls it, and what a folder holds."""

import hashlib
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from atcon.cli import main
from atcon.experiments.config import load_config
from atcon.experiments.sections import RunConfig
from atcon.records import write_text

TINY = (
    "data.per_class=2",
    "data.validation_images=20",
    "data.test_images=24",
    "data.augmentation=rotation",
    "supervised.epochs=2",
    "supervised.lr=1e-3",
    "supervised.batch_size=4",
    "supervised.weight_decay=0",
    "supervised.batch_norm=frozen",
    "consistency.preset=default",
    "consistency.mask=reference",
    "consistency.detach_mask=true",
    "consistency.epochs=2",
    "consistency.lr=1e-5",
    "consistency.batch_size=4",
    "controls.uniform=true",
    "evaluation.gallery=4",
    "evaluation.resamples=100",
)
"""The embedded digits in seconds; whatever the shipped file may choose otherwise is set here."""

COLOURS = {"blue": (40, 60, 200), "green": (40, 170, 60), "red": (200, 50, 40)}


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote to the two streams."""

    code: int
    out: str
    err: str


def atcon(*arguments: object) -> Outcome:
    """Call the command line in this process, through the entry point that reports errors."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["atcon", *map(str, arguments)]
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return Outcome(int(str(code or 0)), out.getvalue(), err.getvalue())


def sets(*overrides: str) -> list[str]:
    """`--set` for each override, after the tiny ones."""
    return [word for override in (*TINY, *overrides) for word in ("--set", override)]


def tiny(*overrides: str) -> RunConfig:
    """The embedded digits with tiny settings."""
    return load_config("digits", [*TINY, *overrides])


def content_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_seconds(record: Any) -> Any:
    """A record without what the clock says."""
    if isinstance(record, Mapping):
        kept = {key: value for key, value in record.items() if key != "seconds"}
        return {key: without_seconds(value) for key, value in kept.items()}
    return record


def make_folder(root: Path, per_class: int = 9) -> Path:
    """A user's images, one folder per class: a coloured disc on a crop of a photograph."""
    random = np.random.default_rng(0)
    for name in COLOURS:
        for index in range(per_class):
            save_disc(root / name / f"{index:02d}.jpg", (name,), random)
    return root


def save_disc(
    path: Path, names: tuple[str, ...], random: np.random.Generator
) -> list[tuple[str, int, int, int, int]]:
    """Draw one disc per name side by side; give name, left, top, right and bottom in pixels."""
    photograph = load_sample_images().images[0]
    top, left = random.integers(0, 300, 2)
    image = photograph[top : top + 64, left : left + 64].copy()
    rows, columns = np.mgrid[:64, :64]
    boxes = []
    for place, name in enumerate(names):
        x, y = 16 + 32 * place, int(random.integers(16, 48))
        image[(rows - y) ** 2 + (columns - x) ** 2 < 12**2] = COLOURS[name]
        boxes.append((name, x - 12, y - 12, x + 12, y + 12))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)
    return boxes


def truncate(path: Path) -> None:
    """Keep the first half of a file, as an interrupted copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def folder_config(path: Path, root: Path, *lines: str) -> Path:
    """A YAML file for the images in `root`; `lines` belong to its section `data`."""
    more = "".join(f"  {line}\n" for line in lines)
    write_text(
        path,
        f"data:\n  name: folder\n  root: {root}\n  per_class: 2\n  validation_images: 6\n"
        f"  image_size: 48\n  augmentation: none\n{more}"
        "model: {name: digits_resnet}\n"
        "supervised: {epochs: 1, lr: 1.0e-3}\n"
        "consistency: {epochs: 1, lr: 1.0e-5}\n"
        "evaluation: {gallery: 2, resamples: 100}\n",
    )
    return path
