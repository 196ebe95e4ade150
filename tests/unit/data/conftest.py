from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atcon.data import ImageSet, read_image
from atcon.types import Example


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write an image of one colour, or of the array given."""

    def write(name: str, content: object = (200, 100, 50), size=(8, 6), **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            image = Image.fromarray(content)
        else:
            image = Image.new("RGB", size, content)
        image.save(path, **options)
        return path

    return write


def _object(name: str, box: tuple[object, ...], difficult: int) -> str:
    edges = "".join(
        f"<{edge}>{value}</{edge}>"
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{edges}</bndbox><part><name>head</name></part></object>"
    )


class VocFolder:
    """A small VOC 2012 folder: images of 20 x 10 pixels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "VOCdevkit" / "VOC2012"
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (self.base / folder).mkdir(parents=True)
        self.lists = {"train": [], "val": []}

    def add(self, part: str, identifier: str, *objects, xml: str | None = None) -> None:
        """Add an image; an object is (name, (xmin, ymin, xmax, ymax)) and perhaps difficult."""
        if xml is None:
            items = "".join(_object(item[0], item[1], (*item, 0)[2]) for item in objects)
            size = "<size><width>20</width><height>10</height></size>"
            xml = f"<annotation>{size}{items}</annotation>"
        (self.base / "Annotations" / f"{identifier}.xml").write_text(xml, encoding="utf-8")
        Image.new("RGB", (20, 10)).save(self.base / "JPEGImages" / f"{identifier}.jpg")
        self.lists[part].append(identifier)
        lines = "".join(f"{name}\n" for name in self.lists[part])
        (self.base / "ImageSets" / "Main" / f"{part}.txt").write_text(lines, encoding="utf-8")


WHOLE = (1, 1, 20, 10)


@pytest.fixture
def voc_folder(tmp_path: Path) -> VocFolder:
    """Hold two training images and one test image of dogs and cats."""
    folder = VocFolder(tmp_path)
    folder.add("train", "a", ("dog", WHOLE))
    folder.add("train", "b", ("cat", WHOLE), ("dog", (11, 6, 20, 10)))
    folder.add("val", "c", ("cat", WHOLE))
    return folder


@pytest.fixture
def names_only() -> Callable[..., ImageSet]:
    """Make an image set without images from a list of label tuples."""

    def make(labels, *, test=4, classes=("x", "y", "z"), validation=None) -> ImageSet:
        def examples(part, rows):
            return tuple(Example(f"{part}{i:03d}", tuple(row)) for i, row in enumerate(rows))

        return ImageSet(
            name="made",
            classes=classes,
            multi_label=True,
            pool=examples("pool", labels),
            test=examples("test", [(0,)] * test),
            validation=None if validation is None else examples("val", validation),
            read=lambda example: read_image(example.path),
        )

    return make
