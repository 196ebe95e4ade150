"""SVHN, house numbers in street view: images of 32 x 32 around one digit, in the set's own files.

Digits of one street image share its light, its font and often its pixels: where the street images
are known, each is wholly in one part.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from atcon.data.boxes import fraction_box
from atcon.data.grouped import balanced_parts
from atcon.data.image_set import ImageSet
from atcon.data.mat_files import SIDE, MatDigits, read_mat
from atcon.data.policy import OnBadImage, Skips
from atcon.data.tables import read_rows
from atcon.downloads import PLAIN, SILENT, Source, Watcher, fetch
from atcon.errors import BadImageError, InputError
from atcon.types import Box, Example, Pixels

CLASSES = tuple(str(digit) for digit in range(10))
BOXES = {"train": "train_boxes.csv", "extra": "extra_boxes.csv", "test": "boxes.csv"}
"""The table of boxes and street images beside each file, where there is one."""

URL = "http://ufldl.stanford.edu/housenumbers/{file}"  # the publisher has no HTTPS
PUBLISHED = {
    "train": ("435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182_040_794),
    "extra": ("a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3", 1_329_278_602),
    "test": ("cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64_275_384),
}
"""SHA-256 and bytes of each file, as TensorFlow Datasets records them."""

SHARES = {"pool": 0.4, "validation": 0.2, "test": 0.4}
"""Of the test file's digits, where it is all there is."""

_COLUMNS = ("index", "source_image", "x1", "y1", "x2", "y2")
_SEED = 0  # of the parts of a test file: the test images are the same for every seed of a run


def svhn(
    root: str | Path,
    *,
    extra: bool = False,
    published_parts: bool = False,
    download: bool = False,
    on_bad_image: OnBadImage = "skip",
    watch: Watcher = SILENT,
) -> ImageSet:
    """Index SVHN's cropped digits: the pool is `train_32x32.mat`, the test `test_32x32.mat`.

    Where only the test file is there, its street images are divided: 40 % of the digits are the
    pool, 20 % for validation, 40 % the test images. That needs `boxes.csv` beside it, a row per
    digit: `index` (from 0), `source_image`, and the box of the digit as edges in pixels, `x1`,
    `y1`, `x2`, `y2`; each may be empty. `train_boxes.csv` and `extra_boxes.csv` say the same of the
    other files. Without them no group is known there, which `notes` says: digits of one street
    image can then be in training and in validation, though never in the test images.

    Args:
        root: The folder of the files, or its parent with a folder `svhn`.
        extra: The pool holds `extra_32x32.mat` too.
        published_parts: The training file must be there; the test file alone is not divided.
        download: Download the files that are missing (250 MB, with extra 1.6 GB).
        on_bad_image: What happens to a box outside its image, and to a digit of the test file that
            belongs to no known street image where the file must be divided.
        watch: Is told how the download goes.

    Raises:
        InputError: A file or table is missing or malformed, or cannot be downloaded; it is named.
        BadImageError: A digit is unusable and the policy is "error".
    """
    divides = not (extra or published_parts)
    base, parts = _find(Path(root), extra, divides, watch if download else None)
    index = _Index(base, parts, on_bad_image)
    if parts == ("test",):
        divided = index.divided()
    else:
        pool = tuple(e for part in parts[:-1] for e in index.examples[part])
        divided = {"pool": pool, "test": index.examples["test"]}
    return ImageSet(
        name="svhn",
        classes=CLASSES,
        multi_label=False,
        pool=divided["pool"],
        test=divided["test"],
        read=index.read,
        validation=divided.get("validation"),
        skipped=tuple(index.skips.entries),
        notes=(*index.notes, *index.repairs.entries),
        root=base,
    )


def _file(part: str) -> str:
    return f"{part}_32x32.mat"


def _find(
    root: Path, extra: bool, divides: bool, watch: Watcher | None
) -> tuple[Path, tuple[str, ...]]:
    """Give the folder and the parts to read; the test part comes last."""
    wanted = ("train", "extra", "test") if extra else ("train", "test")
    places = (root, root / "svhn")
    base = next((p for p in places if any((p / _file(w)).is_file() for w in wanted)), root)
    missing = [part for part in wanted if not (base / _file(part)).is_file()]
    if watch is not None:
        for part in missing:
            _download(base, part, watch)
        return base, wanted
    if missing == ["train"] and divides and (base / BOXES["test"]).is_file():
        return base, ("test",)
    if missing:
        alone = (
            f". {_file('test')} alone is enough if {BOXES['test']} beside it says which street "
            f"image each digit is from"
        )
        raise InputError(
            f"data.root: {base} holds no {' and no '.join(map(_file, missing))}. Set data.root to "
            f"the folder of SVHN's files, or data.download=true to download them"
            f"{alone if divides else ''}"
        )
    return base, wanted


def _download(base: Path, part: str, watch: Watcher) -> None:
    file = _file(part)
    source = Source(f"SVHN's {file}", URL.format(file=file), *PUBLISHED[part])
    fetch(source, base / file, watch, PLAIN)


class _Row(NamedTuple):
    """What a table says of one digit."""

    street: str | None = None
    corners: tuple[float, float, float, float] | None = None
    where: str = ""


class _Index:
    """The digits of every part, and how to read one."""

    def __init__(self, base: Path, parts: Sequence[str], policy: OnBadImage) -> None:
        self.base = base
        self.skips = Skips(policy)
        self.repairs = Skips(policy)
        self.notes: list[tuple[str, str]] = []
        self.digits: dict[str, MatDigits] = {part: read_mat(base / _file(part)) for part in parts}
        self.examples = {part: tuple(self._examples(part)) for part in parts}

    def read(self, example: Example) -> Pixels:
        """Give the pixels of a digit; its name says where it is."""
        part, _, index = example.name.partition("-")
        pixels = self.digits[part].pixels[..., int(index)]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def divided(self) -> dict[str, tuple[Example, ...]]:
        """Divide the street images of the test file into pool, validation and test."""
        known = [e for e in self.examples["test"] if e.group is not None]
        groups = [str(example.group) for example in known]
        table = self.base / BOXES["test"]
        for example in self.examples["test"]:
            if example.group is None:
                text = f"{table}: no street image is given, so it fits in no part; left out"
                self.skips.add(example.name, BadImageError(text))
        try:
            labels = [example.labels for example in known]
            found = balanced_parts(groups, labels, SHARES, classes=len(CLASSES), seed=_SEED)
        except InputError as error:
            raise InputError(f"{table}: {error}") from error
        return {
            part: tuple(e for e in known if found.parts[str(e.group)] == part) for part in SHARES
        }

    def _examples(self, part: str) -> Iterator[Example]:
        labels = self.digits[part].labels % len(CLASSES)
        rows = self._rows(part, len(labels))
        unknown = len(labels) - sum(row.street is not None for row in rows.values())
        if unknown and part != "test":
            remark = f"{BOXES[part]} does not say which street images {unknown} digits are from"
            self.notes.append((_file(part), remark))
        for index, label in enumerate(labels.tolist()):
            name, row = f"{part}-{index:06d}", rows.get(index, _Row())
            box = self._box(label, row, name)
            group = None if row.street is None else f"{part}-{row.street}"
            yield Example(name, (label,), (box,) if box else (), group=group)

    def _rows(self, part: str, digits: int) -> Mapping[int, _Row]:
        path = self.base / BOXES[part]
        rows: dict[int, _Row] = {}
        if not path.is_file():
            return rows
        for number, cells in read_rows(path, set(_COLUMNS)):
            where = f"{path}, line {number}"
            index = int(cells["index"]) if cells["index"].isdecimal() else digits
            if index >= digits or index in rows:
                raise InputError(
                    f"{where}: index {cells['index']!r} is no digit of {_file(part)}, which has "
                    f"{digits}, or occurs twice; is it the table of another file?"
                )
            rows[index] = _Row(cells["source_image"] or None, _corners(cells, where), where)
        return rows

    def _box(self, label: int, row: _Row, name: str) -> Box | None:
        if row.corners is None:
            return None
        return fraction_box(label, row.corners, (SIDE, SIDE), row.where, self.repairs, name)


def _corners(cells: Mapping[str, str], where: str) -> tuple[float, float, float, float] | None:
    edges = [cells[column] for column in _COLUMNS[2:]]
    if not any(edges):
        return None
    try:
        left, top, right, bottom = map(float, edges)
    except ValueError as error:
        raise InputError(f"{where}: the box is not four numbers ({error})") from None
    return left, top, right, bottom
