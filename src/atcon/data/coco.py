"""Images with annotations in COCO's JSON: any classes, several per image, boxes [x, y, w, h]."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atcon.data.assemble import assembled, folder_of, locate
from atcon.data.image_set import ImageSet
from atcon.data.objects import Picture, Seen, described
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import PART_NAMES
from atcon.data.tables import is_there, relative_path
from atcon.errors import InputError

_BULKY = ("segmentation", "caption", "keypoints")
"""Not read; dropped while a file is parsed, of which they are the most."""


def coco(
    root: str | Path,
    *,
    annotations: str | Path | Mapping[str, str],
    classes: Sequence[str] | None = None,
    group: str | None = None,
    test_fraction: float = 0.3,
    seed: int = 0,
    on_bad_image: OnBadImage = "skip",
) -> ImageSet:
    """Index images that COCO's JSON annotates (`images`, `annotations`, `categories`).

    Every category that an image has an annotation of is a label of it. An annotation of a crowd
    (`iscrowd`), or without `bbox`, gives the label and no box. An image without annotations has no
    label.

    An image lies at its `file_name` below the root, or beside its annotation file, or in `root/X`
    where that is called `instances_X.json`, as COCO has them.

    Args:
        root: The folder.
        annotations: The file, looked up in `root` first; or one for each of train, validation and
            test, which is then the split.
        classes: A selection of the categories, in the order wanted; images that show none of them
            are left out. By default all that occur, in the file's order.
        group: A key of the entries of `images`; or a rule for file names as in `folder`.
        test_fraction: Of the images, where no split is given.
        seed: Of that draw.
        on_bad_image: What happens to entries without a file and to boxes outside their image.

    Raises:
        InputError: A file is missing or malformed (the entry is named), or a class is unknown.
        BadImageError: An image is unusable and the policy is "error".
    """
    base = folder_of(root)
    skips, repairs = Skips(on_bad_image), Skips(on_bad_image)
    pictures: list[Picture] = []
    known: dict[str, None] = {}
    for part, path in _files(base, annotations):
        file = _File(base, path, part, group)
        known |= dict.fromkeys(file.categories.values())
        pictures += file.pictures()
    _check_once(pictures)
    found = described(
        base,
        pictures,
        tuple(known),
        classes=classes,
        group=group,
        skips=skips,
        repairs=repairs,
    )
    return assembled("coco", found, test_fraction=test_fraction, seed=seed)


def _files(
    base: Path, annotations: str | Path | Mapping[str, str]
) -> list[tuple[str | None, Path]]:
    if isinstance(annotations, str | Path):
        return [(None, locate(base, annotations, "data.annotations"))]
    unknown = sorted(set(annotations) - set(PART_NAMES))
    if unknown:
        raise InputError(
            f"data.annotations: {unknown[0]!r} is none of 'train', 'validation', 'test'"
        )
    return [
        (PART_NAMES[part], locate(base, path, f"data.annotations.{part}"))
        for part, path in annotations.items()
    ]


def _check_once(pictures: Sequence[Picture]) -> None:
    seen: dict[str, str] = {}
    for picture in pictures:
        if picture.name in seen:
            raise InputError(
                f"{picture.where}: {picture.name} occurs a second time (first: "
                f"{seen[picture.name]}); give each file one entry"
            )
        seen[picture.name] = picture.where


@dataclass(frozen=True)
class _Entry:
    """One entry of a list, which says in its errors where it stands."""

    content: Mapping[str, Any]
    where: str

    def text(self, key: str) -> str:
        value = self.content.get(key)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{self.where}: {key!r} is {_short(value)}, not a text")
        return value.strip()

    def identifier(self, key: str) -> int | str:
        value = self.content.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InputError(f"{self.where}: {key!r} is {_short(value)}, not a number or text")
        return value

    def pixels(self, key: str) -> int | None:
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{self.where}: {key!r} is {_short(value)}, not a number of pixels")
        return round(value) if math.isfinite(value) else None


class _File:
    """One annotation file."""

    def __init__(self, base: Path, path: Path, part: str | None, group: str | None) -> None:
        self.base, self.path, self.part, self.group = base, path, part, group
        record = _parse(path)
        self.images = self._entries(record, "images")
        self.annotations = self._entries(record, "annotations")
        self.categories = {
            key: entry.text("name")
            for key, entry in self._by_id(self._entries(record, "categories")).items()
        }
        self.places = [base, path.parent]
        if path.stem.startswith("instances_"):
            self.places.append(base / path.stem.removeprefix("instances_"))

    def pictures(self) -> list[Picture]:
        """Give every image with its objects.

        Raises:
            InputError: An entry is malformed, or names an image or category that there is not.
        """
        images = self._by_id(self.images)
        objects: dict[int | str, list[Seen]] = {key: [] for key in images}
        for entry in self.annotations:
            image, category = entry.identifier("image_id"), entry.identifier("category_id")
            if image not in images:
                raise InputError(f"{entry.where}: image_id {image!r} is the id of no image")
            if category not in self.categories:
                raise InputError(f"{entry.where}: category_id {category!r} is no category")
            seen = Seen(self.categories[category], _corners(entry), entry.where)
            objects[image].append(seen)
        keyed = any(self.group in entry.content for entry in self.images)
        return [
            Picture(
                self._name(entry),
                tuple(objects[key]),
                _size(entry),
                entry.where,
                self.part,
                self._group(entry) if keyed else None,
            )
            for key, entry in images.items()
        ]

    def _entries(self, record: Mapping[str, Any], key: str) -> list[_Entry]:
        content = record.get(key)
        if not isinstance(content, list):
            raise InputError(f"{self.path}: {key!r} is {_short(content)}, not a list")
        entries = [_Entry(one, f"{self.path}, {key}[{at}]") for at, one in enumerate(content)]
        for entry in entries:
            if not isinstance(entry.content, dict):
                raise InputError(f"{entry.where}: {_short(entry.content)} is no entry {{…}}")
        return entries

    def _by_id(self, entries: Sequence[_Entry]) -> dict[int | str, _Entry]:
        found: dict[int | str, _Entry] = {}
        for entry in entries:
            key = entry.identifier("id")
            if key in found:
                raise InputError(f"{entry.where}: id {key!r} is that of {found[key].where}, too")
            found[key] = entry
        return found

    def _name(self, entry: _Entry) -> str:
        """Give the file of an image relative to the root, wherever it lies."""
        file = entry.text("file_name")
        name = relative_path(file, self.base, entry.where)
        for place in self.places:
            found = place.absolute() / file
            if found.is_relative_to(self.base.absolute()) and is_there(found):
                return relative_path(str(found), self.base, entry.where)
        return name

    def _group(self, entry: _Entry) -> str:
        value = entry.identifier(str(self.group))
        if value == "":
            raise InputError(f"{entry.where}: {self.group!r} is empty; every image needs its group")
        return str(value)


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_bytes().decode("utf-8-sig"), object_hook=_slim)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{path}: not a readable JSON file ({reason})") from error
    if not isinstance(record, dict):
        raise InputError(
            f"{path}: not COCO's annotations, which are {{images, annotations, categories}}"
        )
    return record


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    for key in _BULKY:
        entry.pop(key, None)
    return entry


def _size(entry: _Entry) -> tuple[int, int] | None:
    width, height = entry.pixels("width"), entry.pixels("height")
    return None if width is None or height is None else (width, height)


def _corners(entry: _Entry) -> tuple[float, float, float, float] | None:
    """Give the edges of a box; None where there is none, or it is that of a crowd."""
    box, crowd = entry.content.get("bbox"), entry.content.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{entry.where}: 'iscrowd' is {_short(crowd)}, neither 0 nor 1")
    if crowd or box is None or box == []:
        return None
    fits = isinstance(box, list) and len(box) == 4
    if not fits or not all(_is_number(value) for value in box):
        raise InputError(f"{entry.where}: 'bbox' is {_short(box)}, not [x, y, width, height]")
    left, top, width, height = map(float, box)
    return left, top, left + width, top + height


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e6  # neither NaN nor endless


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
