"""From rows of files and labels to an image set: what is missing is named, parts are drawn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atcon.data.held_out import parts_of
from atcon.data.image_set import ImageSet
from atcon.data.images import read_file
from atcon.data.policy import Skips
from atcon.data.rows import Row
from atcon.data.tables import is_there
from atcon.errors import BadImageError, InputError
from atcon.types import Box, Example, Pixels


@dataclass(frozen=True)
class Described:
    """What a user's tables, folders or annotations say of the images.

    Attributes:
        base: The folder.
        rows: One for each image.
        classes: The names that the labels point at.
        multi_label: Whether an image may have several.
        boxes: By image name.
        skips: Images left out so far.
        repairs: Remarks so far.
    """

    base: Path
    rows: Sequence[Row]
    classes: tuple[str, ...]
    multi_label: bool
    skips: Skips
    repairs: Skips
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)


def assembled(
    name: str,
    found: Described,
    *,
    test_fraction: float,
    seed: int,
    read: Callable[[Example], Pixels] | None = None,
) -> ImageSet:
    """Make the image set; a test part of `test_fraction` is drawn where none is given.

    Args:
        name: Of the data set.
        found: Its description.
        test_fraction: As in `parts_of`.
        seed: Likewise.
        read: How an image is read that is no file of its own; by default its file is.

    Raises:
        InputError: A class or a part has no image.
    """
    check_classes_filled(found.base, found.rows, found.classes)
    drawn, remark = parts_of(
        found.rows, len(found.classes), found.base, test_fraction=test_fraction, seed=seed
    )
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for row, part in zip(found.rows, drawn, strict=True):
        path, places = str(found.base / row.name), found.boxes.get(row.name, ())
        parts[part].append(
            Example(row.name, row.labels, places, path if read is None else None, row.group)
        )
    remarks = () if remark is None else (("data.group", remark),)
    return ImageSet(
        name=name,
        classes=found.classes,
        multi_label=found.multi_label,
        pool=tuple(parts["train"]),
        test=tuple(parts["test"]),
        read=read or read_file,
        validation=tuple(parts["validation"]) or None,
        skipped=tuple(found.skips.entries),
        notes=(*remarks, *found.repairs.entries),
        root=found.base,
    )


def folder_of(root: str | Path) -> Path:
    """Give the folder of a data set.

    Raises:
        InputError: It is none.
    """
    base = Path(root)
    if not base.is_dir():
        raise InputError(f"data.root: {base} is not a folder; set it to the folder of your images")
    return base


def locate(base: Path, path: str | Path, key: str) -> Path:
    """Find a table or an annotation file: below the root first.

    Raises:
        InputError: It is not there; the key is named.
    """
    for place in (base / path, Path(path)):
        if is_there(place):
            return place
    raise InputError(f"{key}: no file {path}, neither in {base} nor in the working folder")


def present(base: Path, rows: Sequence[Row], skips: Skips) -> Iterator[Row]:
    """Give the rows whose file is there; the others follow the policy."""
    for row in rows:
        if is_there(base / row.name):
            yield row
        else:
            skips.add(row.name, BadImageError(f"{base / row.name}: no such file"))


def check_classes_filled(base: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Refuse a class that no image has."""
    used = {label for row in rows for label in row.labels}
    empty = [name for label, name in enumerate(names) if label not in used]
    if empty:
        raise InputError(
            f"{base}: no image of class {', '.join(map(repr, empty))}; add images or leave the "
            f"class out of data.classes"
        )
