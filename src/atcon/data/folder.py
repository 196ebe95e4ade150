"""A user's own images: one folder per class, or a CSV of files and labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from atcon.data.assemble import (
    Described,
    assembled,
    check_classes_filled,
    folder_of,
    locate,
    present,
)
from atcon.data.dicom import SUFFIXES as DICOM
from atcon.data.grouping import grouped
from atcon.data.image_set import ImageSet
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import PART_NAMES, Row
from atcon.data.tables import boxes_table, labels_table
from atcon.errors import InputError

SUFFIXES = DICOM | {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}


def folder(
    root: str | Path,
    *,
    csv: str | Path | None = None,
    boxes: str | Path | None = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    test_fraction: float = 0.3,
    seed: int = 0,
    on_bad_image: OnBadImage = "skip",
) -> ImageSet:
    """Index a folder of images.

    Without a CSV, each sub-folder is a class (one label per image); where `root/train` and
    `root/test` both exist (and perhaps `root/validation`), the class folders lie in those and the
    split is theirs. Images may lie deeper; hidden files and other file types are ignored.

    A CSV has the column `file` (relative to `root`) and either `label` (one per image) or
    `labels` (separated by `;`, also none), and perhaps `split` (train, validation, test). A boxes
    CSV has `file, label, left, top, right, bottom`: edges in pixels of the upright image, from 0
    to width or height.

    Without a split of its own, a part of `test_fraction` is drawn with `seed`, stratified by the
    labels; of images with groups, whole groups are drawn.

    Args:
        root: The folder.
        csv: Labels; a relative path is looked up in `root` first.
        boxes: Boxes; likewise.
        classes: Names and order. Of folders it is a selection; in a CSV other labels are errors.
        group: Whom or what an image was taken of, which no two parts share: a column of the CSV;
            of class folders `folder` (their sub-folders: CLASS/GROUP/IMAGE); of DICOM files
            `patient` (their PatientID); or a regular expression with one group in parentheses,
            searched for in the file names.
        test_fraction: Of the images, where no split is given.
        seed: Of that draw.
        on_bad_image: What happens to rows without a file and to boxes outside their image.

    Raises:
        InputError: A folder, file, column, class or label is missing or unknown, or the group of an
            image is.
        BadImageError: An image is unusable and the policy is "error".
    """
    base = folder_of(root)
    skips, repairs = Skips(on_bad_image), Skips(on_bad_image)
    if csv is None:
        rows, names = _class_folders(base, classes)
        multi_label = False
        rows = grouped(rows, group, base, skips, lambda row: 1 if row.part is None else 2)
    else:
        table = locate(base, csv, "data.csv")
        rows, names, multi_label = labels_table(table, base, classes, group)
        rows = grouped(list(present(base, rows, skips)), group, base, skips)
    check_classes_filled(base, rows, names)
    labels = {row.name: row.labels for row in rows}
    places = {}
    if boxes is not None:
        table = locate(base, boxes, "data.boxes")
        places = boxes_table(table, base, names, labels, repairs)
    found = Described(base, rows, names, multi_label, skips, repairs, places)
    return assembled("folder", found, test_fraction=test_fraction, seed=seed)


def _class_folders(base: Path, classes: Sequence[str] | None) -> tuple[list[Row], tuple[str, ...]]:
    """Find the images of every class folder, sorted by name."""
    parts: dict[str | None, Path] = {None: base}
    if (base / "train").is_dir() and (base / "test").is_dir():
        parts = {PART_NAMES[p.name]: p for p in _folders(base) if p.name in PART_NAMES}
    present = sorted({place.name for part in parts.values() for place in _folders(part)})
    if not present:
        raise InputError(
            f"{base}: no class folders; expected {base}/CLASS/IMAGE, {base}/train/CLASS/IMAGE with "
            f"{base}/test/CLASS/IMAGE, or a CSV (data.csv)"
        )
    names = check_classes(present if classes is None else classes, base)
    for name in names:
        label_index(name, present, base)
    rows = [
        Row(path.relative_to(base).as_posix(), (label,), part)
        for part, place in parts.items()
        for label, name in enumerate(names)
        for path in images_below(place / name)
    ]
    return sorted(rows, key=lambda row: row.name), names


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_below(place: Path) -> Iterator[Path]:
    """Give the image files of a folder and those in it; hidden ones are none."""
    for path in place.rglob("*"):
        known = path.suffix.lower() in SUFFIXES and not is_hidden(path.relative_to(place))
        if known and path.is_file():
            yield path


def is_hidden(path: Path) -> bool:
    """Whether a path below the root, or a folder of it, is hidden."""
    return any(part.startswith(".") for part in path.parts)
