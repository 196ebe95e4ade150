"""Images that are described by the objects in them (COCO, XML): their labels and boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atcon.data.assemble import Described, present
from atcon.data.boxes import fraction_box
from atcon.data.grouping import grouped
from atcon.data.images import image_size
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import Skips
from atcon.data.rows import Row
from atcon.errors import BadImageError, InputError
from atcon.types import Box


@dataclass(frozen=True, slots=True)
class Seen:
    """One object.

    Attributes:
        name: Its class.
        corners: Left, top, right, bottom edges in pixels; None where it has no box of its own.
        where: The file and entry that say so.
    """

    name: str
    corners: tuple[float, float, float, float] | None
    where: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One image.

    Attributes:
        name: Its file, relative to the root.
        objects: In it.
        size: Width and height that the annotations give; None where they give none.
        where: The file and entry that say so.
        part: As in a `Row`.
        group: As in a `Row`.
    """

    name: str
    objects: tuple[Seen, ...]
    size: tuple[int, int] | None
    where: str
    part: str | None = None
    group: str | None = None


def described(
    base: Path,
    pictures: Sequence[Picture],
    known: Sequence[str],
    *,
    classes: Sequence[str] | None,
    group: str | None,
    skips: Skips,
    repairs: Skips,
) -> Described:
    """Turn objects into labels and boxes.

    Args:
        base: The root.
        pictures: All images.
        known: All names that the annotations have, in order.
        classes: A selection and order of them; images that show none of these are left out. By
            default all that occur, and images without any object have no label.
        group: The rule of `grouped`, for images without a group so far.
        skips: Receives images without a file.
        repairs: Receives remarks on boxes, and on names that do not occur.

    Raises:
        InputError: A class is unknown.
        BadImageError: An image is unusable and the policy is "error".
    """
    names = _names(pictures, known, classes, base, repairs)
    kept = [
        picture
        for picture in pictures
        if classes is None or any(seen.name in names for seen in picture.objects)
    ]
    rows: list[Row] = []
    for picture in kept:
        shown = {names.index(seen.name) for seen in picture.objects if seen.name in names}
        rows.append(Row(picture.name, tuple(sorted(shown)), picture.part, picture.group))
    rows = list(present(base, rows, skips))
    rows = grouped(rows, group, base, skips)
    here = {row.name for row in rows}
    boxes = {
        picture.name: tuple(_boxes(base, picture, names, repairs))
        for picture in kept
        if picture.name in here
    }
    return Described(base, rows, names, True, skips, repairs, boxes)


def _names(
    pictures: Iterable[Picture],
    known: Sequence[str],
    classes: Sequence[str] | None,
    base: Path,
    repairs: Skips,
) -> tuple[str, ...]:
    if classes is not None:
        names = check_classes(classes, "data.classes")
        for name in names:
            label_index(name, known, "data.classes")
        return names
    used = {seen.name for picture in pictures for seen in picture.objects}
    unused = [name for name in known if name not in used]
    if unused:
        remark = f"no image shows {', '.join(map(repr, unused))}; not a class of this run"
        repairs.entries.append(("data.classes", remark))
    return check_classes([name for name in known if name in used], base)


def _boxes(base: Path, picture: Picture, names: Sequence[str], repairs: Skips) -> Iterable[Box]:
    """Give the boxes of an image in fractions; none where the annotations mean other pixels."""
    places = [(seen, seen.corners) for seen in picture.objects if seen.name in names]
    if all(corners is None for _, corners in places):
        return
    try:
        size = image_size(base / picture.name)
    except BadImageError:
        return  # the image itself cannot be read, which is said where it would be used
    if picture.size not in (None, size):
        text = (
            f"{picture.where}: annotated as {picture.size[0]} x {picture.size[1]}, but "
            f"{picture.name} is {size[0]} x {size[1]}; its boxes were left out"
        )
        repairs.add(picture.name, InputError(text))
        return
    for seen, corners in places:
        if corners is not None:
            label = names.index(seen.name)
            box = fraction_box(label, corners, size, seen.where, repairs, picture.name)
            if box is not None:
                yield box
