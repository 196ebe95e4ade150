"""A user's own images: one folder per class, or a CSV of files and labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from atcon.data.grouping import grouped
from atcon.data.held_out import parts_of
from atcon.data.image_set import ImageSet
from atcon.data.images import read_file
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import PART_NAMES, Row
from atcon.data.tables import boxes_table, labels_table
from atcon.errors import BadImageError, InputError
from atcon.types import Example

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})


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
            of class folders `folder` (their sub-folders: CLASS/GROUP/IMAGE); or of either a regular
            expression with one group in parentheses, searched for in the file names.
        test_fraction: Of the images, where no split is given.
        seed: Of that draw.
        on_bad_image: What happens to rows without a file and to boxes outside their image.

    Raises:
        InputError: A folder, file, column, class or label is missing or unknown, or the group of an
            image is.
        BadImageError: An image is unusable and the policy is "error".
    """
    base = Path(root)
    if not base.is_dir():
        raise InputError(f"data.root: {base} is not a folder; set it to the folder of your images")
    skips, repairs = Skips(on_bad_image), Skips(on_bad_image)
    if csv is None:
        rows, names = _class_folders(base, classes)
        if group is not None:
            rows = grouped(rows, group, lambda row: 1 if row.part is None else 2)
        multi_label = False
    else:
        rows, names, multi_label = labels_table(
            _locate(base, csv, "data.csv"), base, classes, group
        )
        rows = list(_present(base, rows, skips))
    _check_classes_filled(base, rows, names)
    labels = {row.name: row.labels for row in rows}
    found = {}
    if boxes is not None:
        found = boxes_table(_locate(base, boxes, "data.boxes"), base, names, labels, repairs)
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    drawn, remark = parts_of(rows, len(names), base, test_fraction=test_fraction, seed=seed)
    for row, part in zip(rows, drawn, strict=True):
        path, places = str(base / row.name), found.get(row.name, ())
        parts[part].append(Example(row.name, row.labels, places, path, row.group))
    remarks = () if remark is None else (("data.group", remark),)
    return ImageSet(
        name="folder",
        classes=names,
        multi_label=multi_label,
        pool=tuple(parts["train"]),
        test=tuple(parts["test"]),
        read=read_file,
        validation=tuple(parts["validation"]) or None,
        skipped=tuple(skips.entries),
        notes=(*remarks, *repairs.entries),
        root=base,
    )


def _locate(base: Path, path: str | Path, key: str) -> Path:
    for place in (base / path, Path(path)):
        if place.is_file():
            return place
    raise InputError(f"{key}: no file {path}, neither in {base} nor in the working folder")


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
        for path in _images(place / name)
    ]
    return sorted(rows, key=lambda row: row.name), names


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(place: Path) -> Iterator[Path]:
    for path in place.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _present(base: Path, rows: Sequence[Row], skips: Skips) -> Iterator[Row]:
    for row in rows:
        if (base / row.name).is_file():
            yield row
        else:
            skips.add(row.name, BadImageError(f"{base / row.name}: no such file"))


def _check_classes_filled(base: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    used = {label for row in rows for label in row.labels}
    empty = [name for label, name in enumerate(names) if label not in used]
    if empty:
        raise InputError(
            f"{base}: no image of class {', '.join(map(repr, empty))}; add images or leave the "
            f"class out of data.classes"
        )
