"""The two CSV files of a user's data: labels (`file`, `label` or `labels`) and boxes."""

import csv
import os.path
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from atcon.data.boxes import fraction_box
from atcon.data.grouping import is_rule
from atcon.data.images import image_size
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import Skips
from atcon.data.rows import PART_NAMES, Row
from atcon.errors import BadImageError, InputError
from atcon.types import Box


def labels_table(
    path: Path, base: Path, classes: Sequence[str] | None, group: str | None = None
) -> tuple[list[Row], tuple[str, ...], bool]:
    """Read the labels: rows, class names (sorted unless given) and whether they are multi-label.

    `group` is the column of the groups, or a rule (`grouped`), which is left to the caller.

    Raises:
        InputError: A column is missing, a file occurs twice or leaves the root, a label is not in
            `classes`, or a split or group is half given.
    """
    lines = list(read_rows(path, {"file"}))
    columns = set(lines[0][1]) if lines else set()
    if not lines or ("label" in columns) == ("labels" in columns):
        raise InputError(
            f"{path}: needs rows, the column 'file', and either 'label' (one class per image) or "
            f"'labels' (separated by ';'); found {len(lines)} rows, columns {sorted(columns)}"
        )
    if group is not None and group not in columns and not is_rule(group):
        raise InputError(
            f"data.group: {path} has no column {group!r}, but {', '.join(sorted(columns))}"
        )
    multi_label = "labels" in columns
    cells = [_labels(row, f"{path}, line {number}", multi_label) for number, row in lines]
    found = sorted({label for cell in cells for label in cell})
    names = check_classes(found if classes is None else classes, path)
    rows: dict[str, Row] = {}
    for (number, row), cell in zip(lines, cells, strict=True):
        where = f"{path}, line {number}"
        name = relative_path(row["file"], base, where)
        if name in rows:
            raise InputError(f"{where}: {name} occurs a second time; give each file one row")
        labels = tuple(sorted({label_index(label, names, where) for label in cell}))
        rows[name] = Row(name, labels, part_name(row, where), _group(row, group, where))
    return list(rows.values()), names, multi_label


def boxes_table(
    path: Path,
    base: Path,
    classes: Sequence[str],
    labels: Mapping[str, tuple[int, ...]],
    repairs: Skips,
) -> dict[str, tuple[Box, ...]]:
    """Read the boxes of the images in `labels`, by image name.

    Boxes of other images are left out with a note in `repairs`, boxes outside their image are
    clipped with a note (errors under the policy "error").

    Raises:
        InputError: A column is missing, a value is not a number, or a box has a class that its
            image has not.
    """
    boxes: dict[str, tuple[Box, ...]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number, row in read_rows(path, {"file", "label", "left", "top", "right", "bottom"}):
        where = f"{path}, line {number}"
        name = relative_path(row["file"], base, where)
        if name not in labels:
            repairs.add(name, InputError(f"{where}: no image {name} in the set; box left out"))
            continue
        label = label_index(row["label"], classes, where)
        if label not in labels[name]:
            raise InputError(f"{where}: a box of {row['label']!r}, which {name} is not labelled as")
        try:
            sizes.setdefault(name, image_size(base / name))
        except BadImageError as error:
            repairs.add(name, error)
            continue
        box = fraction_box(label, _corners(row, where), sizes[name], where, repairs, name)
        if box is not None:
            boxes[name] = (*boxes.get(name, ()), box)
    return boxes


def read_rows(path: Path, needed: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give line number and cells of each row, stripped.

    Raises:
        InputError: The table cannot be read, lacks a column of `needed`, or a row has other cells.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            missing = sorted(needed - set(reader.fieldnames or ()))
            if missing:
                raise InputError(
                    f"{path}: column {', '.join(missing)} is missing; "
                    f"found {', '.join(reader.fieldnames or ()) or 'an empty file'}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(reader.fieldnames or ())} cells "
                        f"are expected; quote a value that holds a comma"
                    )
                yield reader.line_num, {key: cell.strip() for key, cell in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable UTF-8 CSV file ({error})") from error


def _labels(row: Mapping[str, str], where: str, multi_label: bool) -> list[str]:
    if multi_label:
        return [label.strip() for label in row["labels"].split(";") if label.strip()]
    if not row["label"] or ";" in row["label"]:
        raise InputError(
            f"{where}: column 'label' takes exactly one class, found {row['label']!r}; for several "
            f"or none call the column 'labels'"
        )
    return [row["label"]]


def part_name(row: Mapping[str, str], where: str) -> str | None:
    """Give train, validation or test as the column `split` says; None where there is none.

    Raises:
        InputError: It says something else.
    """
    if "split" not in row:
        return None
    if row["split"].lower() not in PART_NAMES:
        raise InputError(
            f"{where}: split {row['split']!r} is none of 'train', 'validation', 'test'"
        )
    return PART_NAMES[row["split"].lower()]


def _group(row: Mapping[str, str], column: str | None, where: str) -> str | None:
    """An image whose group is not known could be of a group in another part."""
    if column is None or column not in row:
        return None
    if not row[column]:
        raise InputError(f"{where}: column {column!r} is empty; every image needs its group")
    return row[column]


def relative_path(file: str, base: Path, where: str) -> str:
    """Give the path relative to the root, with forward slashes.

    Raises:
        InputError: It leaves the root.
    """
    root = os.path.abspath(base)  # noqa: PTH100 - Path.resolve would follow links
    path = os.path.normpath(os.path.join(root, file))  # noqa: PTH118 - normpath works on text
    if not file or not Path(path).is_relative_to(root) or path == root:
        raise InputError(f"{where}: file {file!r} is not below {base}; use paths relative to it")
    return PurePosixPath(Path(path).relative_to(root)).as_posix()


def is_there(path: Path) -> bool:
    """Whether a file is there; under a name that no system takes, such as a longer one, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _corners(row: Mapping[str, str], where: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(row[k]) for k in ("left", "top", "right", "bottom"))
    except ValueError as error:
        raise InputError(f"{where}: the box is not four numbers ({error})") from None
    return left, top, right, bottom
