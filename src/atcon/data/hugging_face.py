"""Image-classification sets in the format of Hugging Face's `datasets`, local or of the hub."""

from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atcon.data.assemble import Described, assembled
from atcon.data.grouping import is_rule
from atcon.data.image_set import ImageSet
from atcon.data.images import read_bytes, read_image
from atcon.data.labels import check_classes, label_index
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import PART_NAMES, Row
from atcon.errors import BadImageError, InputError
from atcon.types import Example, Pixels


def hf(
    source: str | Path,
    *,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    download: bool = False,
    test_fraction: float = 0.3,
    seed: int = 0,
    on_bad_image: OnBadImage = "skip",
) -> ImageSet:
    """Index a set with one column of images and one of labels.

    Labels are a `ClassLabel` (one per image), a list of them (several), or texts (one). The parts
    `train`, `validation` and `test` of the set are the split; without a test part, `validation` is
    the test part; with `train` alone, test images are drawn. Images are decoded by `read_image`'s
    rules, one when it is asked for.

    Args:
        source: A folder of `save_to_disk` or with Parquet files; or the name of a set of the hub.
        label: The column of the labels, where several could be.
        classes: A selection of the classes, in the order wanted; other images are left out.
        group: The column of the groups.
        download: Let `datasets` fetch a set of the hub; nothing is asked of it otherwise.
        test_fraction: Of the images, where no split is given.
        seed: Of that draw.
        on_bad_image: What happens to images that cannot be read.

    Raises:
        InputError: The library or the set is missing, or a column is not as above.
    """
    tables = _tables(_opened(source, download))
    where, parts = str(source), _parts(tables.keys())
    images, kind = _columns(tables["train"], label, where)
    skips, repairs = Skips(on_bad_image), Skips(on_bad_image)
    names, multi_label = _classes(tables, kind, where)
    wanted = names if classes is None else check_classes(classes, "data.classes")
    for name in wanted:
        label_index(name, names, "data.classes")
    rows = [
        row
        for name, table in tables.items()
        for row in _rows(
            table,
            name,
            parts[name],
            column=kind,
            names=names,
            wanted=wanted,
            groups=_groups(table, name, group, where),
        )
    ]
    found = Described(Path(where), rows, wanted, multi_label, skips, repairs)
    read = _reader({name: _undecoded(table, images) for name, table in tables.items()}, images)
    return assembled("hf", found, test_fraction=test_fraction, seed=seed, read=read)


def _opened(source: str | Path, download: bool) -> Any:
    if find_spec("datasets") is None:
        raise InputError("data.name=hf needs the library datasets: pip install 'atcon[hf]'")
    import datasets  # noqa: PLC0415 - an extra

    path = Path(source)
    if not path.is_dir() and not download:
        raise InputError(
            f"data.root: {source} is not a folder; for a set of the hub of this name, set "
            f"data.download=true"
        )
    saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    try:
        return datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(source))
    except Exception as error:  # readers of files and of the hub raise anything
        raise InputError(f"data.root: datasets cannot read {source} ({error})") from error


def _tables(opened: Any) -> dict[str, Any]:
    """Give the tables of the parts that are used, by the name that the set gives them."""
    tables = dict(opened) if isinstance(opened, dict) else {"train": opened}
    if "train" not in tables:
        raise InputError(f"data.root: the set has the parts {', '.join(tables)}, and no 'train'")
    return {name: table for name, table in tables.items() if name in PART_NAMES}


def _parts(names: Collection[str]) -> dict[str, str | None]:
    """Give the part of every table: validation images are the test, where there is no other."""
    if len(names) == 1:
        return dict.fromkeys(names)
    parts = {name: PART_NAMES[name] for name in names}
    if "test" in names:
        return dict(parts)
    return {name: "test" if part == "validation" else part for name, part in parts.items()}


def _columns(table: Any, label: str | None, where: str) -> tuple[str, str]:
    """Find the column of the images, and that of the labels."""
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, feature in table.features.items() if _names_of(feature) is not None]
    if label is not None:
        labels = [label] if label in kinds else []
    elif not labels:
        labels = [name for name in ("label", "labels") if name in kinds]
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    raise InputError(
        f"data.root: {where} needs one column of images and one of labels (data.label says which); "
        f"it has {listed}"
    )


def _names_of(feature: Any) -> tuple[str, ...] | None:
    """Give the class names of a column; None where it has none."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(map(str, names))


def _classes(tables: dict[str, Any], column: str, where: str) -> tuple[tuple[str, ...], bool]:
    """Give the names of the classes, and whether an image may have several."""
    feature = tables["train"].features.get(column)
    names = _names_of(feature)
    if names is not None:
        return check_classes(names, where), hasattr(feature, "feature")
    texts = {value for table in tables.values() for value in _column(table, column)}
    if not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"data.label: column {column!r} holds neither classes nor texts")
    return check_classes(sorted(texts), where), False


def _column(table: Any, column: str) -> list[Any]:
    """Read one column, without the images."""
    return list(table.select_columns([column])[:][column])


def _rows(
    table: Any,
    name: str,
    part: str | None,
    *,
    column: str,
    names: Sequence[str],
    wanted: Sequence[str],
    groups: Sequence[str | None],
) -> list[Row]:
    """Give the rows of one table that show a class that is wanted, or by itself none."""
    rows = []
    for at, (value, group) in enumerate(zip(_column(table, column), groups, strict=True)):
        held = value if isinstance(value, list) else [value]
        try:
            shown = [one if isinstance(one, str) else _known(names, one) for one in held]
        except (IndexError, TypeError):
            raise InputError(
                f"data.label: {name}/{at:06d}: {value!r} is no class of column {column!r}"
            ) from None
        labels = tuple(sorted({wanted.index(one) for one in shown if one in wanted}))
        if labels or not shown:
            rows.append(Row(f"{name}/{at:06d}", labels, part, group))
    return rows


def _known(names: Sequence[str], label: int) -> str:
    """A set whose labels are kept secret has -1."""
    if label < 0:
        raise IndexError
    return names[label]


def _groups(table: Any, name: str, group: str | None, where: str) -> list[str | None]:
    if group is None:
        return [None] * len(table)
    if group not in table.features:
        hint = "; rules for file names do not hold here" if is_rule(group) else ""
        raise InputError(
            f"data.group: {where} has no column {group!r}, but {', '.join(table.features)}{hint}"
        )
    values = _column(table, group)
    for at, value in enumerate(values):
        if value is None or value == "":
            raise InputError(f"{where}, {name}/{at:06d}: column {group!r} is empty")
    return [str(value) for value in values]


def _undecoded(table: Any, column: str) -> Any:
    from datasets import Image  # noqa: PLC0415 - an extra

    return table.select_columns([column]).cast_column(column, Image(decode=False))


def _reader(tables: dict[str, Any], column: str) -> Callable[[Example], Pixels]:
    def read(example: Example) -> Pixels:
        name, _, at = example.name.rpartition("/")
        content = tables[name][int(at)][column]
        if content is None:
            raise BadImageError(f"{example.name}: there is no image")
        if content["bytes"] is None:
            return read_image(content["path"])
        return read_bytes(content["bytes"], example.name)

    return read
