"""New images or clips for a finished run, with labels where they are known."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from atcon.data.assemble import locate, present
from atcon.data.clip_files import CLIP_SUFFIX, read_clip
from atcon.data.folder import images_below, is_hidden
from atcon.data.grouping import grouped, is_rule
from atcon.data.image_set import ImageSet
from atcon.data.images import read_file
from atcon.data.manifest import ABOUT, MANIFEST, form_of, present_clips
from atcon.data.policy import OnBadImage, Skips
from atcon.data.rows import Row
from atcon.data.tables import read_rows, relative_path
from atcon.errors import InputError
from atcon.types import Example, Pixels

Names = frozenset[str] | None
"""The names of a sample's classes; None where nothing is known of them."""


@dataclass(frozen=True)
class Incoming:
    """New samples, and what is known of them.

    Attributes:
        image_set: All of them are in its `pool`; their `labels` mean nothing.
        truth: Classes of the run that hold, as indices, by the name of the sample. Missing: not
            known, or of classes that the run does not have only.
        foreign: How many samples have a class that the run does not have, by its name.
    """

    image_set: ImageSet
    truth: Mapping[str, frozenset[int]]
    foreign: Mapping[str, int]


class _Sample(NamedTuple):
    example: Example
    names: Names


def incoming_images(
    root: str | Path,
    classes: Sequence[str],
    *,
    csv: str | Path | None = None,
    group: str | None = None,
    on_bad_image: OnBadImage = "skip",
) -> Incoming:
    """Index every image below a folder, or those of a table.

    Where folders at the top have names of classes, they are labels: of the images in them, and
    the other folders there are of classes that the run does not have. A table has the column
    `file`, relative to the root, and perhaps `label` (may be empty: not known) or `labels`
    (separated by `;`, empty: none holds).

    Args:
        root: The folder, or a table (its folder is the root then).
        classes: Of the run.
        csv: A table; a relative path is looked up in the root first.
        group: A column of the table, or a rule, as for `folder`.
        on_bad_image: What happens to rows without a file.

    Raises:
        InputError: There is no such folder or table, or no image, or the table is malformed.
        BadImageError: A file of the table is missing and the policy is "error".
    """
    base = Path(root)
    if base.is_file() and csv is None:
        base, csv = base.parent, base.absolute()
    if not base.is_dir():
        raise InputError(f"{base}: no such folder; give a folder of images, or a CSV of them")
    skips = Skips(on_bad_image)
    if csv is None:
        rows, names = _found(base, classes)
        labelled = any(one is not None for one in names.values())
        rows = grouped(rows, group, base, skips, lambda row: int(labelled and "/" in row.name))
    else:
        rows, names = _listed(locate(base, csv, "--csv"), base, group)
        rows = grouped(list(present(base, rows, skips)), group, base, skips)
    if not rows:
        raise InputError(f"{base}: no image can be read there")
    samples = [
        _Sample(Example(row.name, (), (), str(base / row.name), row.group), names[row.name])
        for row in rows
    ]
    like = ImageSet("incoming", tuple(classes), True, (), (), read_file, root=base)
    return _incoming(replace(like, skipped=tuple(skips.entries)), samples, classes)


def incoming_clips(
    root: str | Path,
    classes: Sequence[str],
    *,
    frames: int,
    rate: float,
    on_bad_image: OnBadImage = "skip",
) -> Incoming:
    """Index a folder that `atcon clips` made, with labels and patients, or clip files without.

    Args:
        root: The folder.
        classes: Of the run.
        frames: Of every clip of the run.
        rate: Frames per second of them.
        on_bad_image: What happens to clips of the list without a file.

    Raises:
        InputError: There is no clip, or they were cut with other frames or at another rate.
        BadImageError: A clip of the list is missing and the policy is "error".
    """
    base, skips = Path(root), Skips(on_bad_image)
    if not base.is_dir():
        raise InputError(
            f"{base}: not a folder of clips; cut clips out of recordings with atcon clips first"
        )
    samples = list(_listed_clips(base, skips) if (base / MANIFEST).is_file() else _clip_files(base))
    if not samples:
        raise InputError(f"{base}: there is no clip of atcon clips in it")
    if (base / ABOUT).is_file():
        form = form_of(base)
        if (form.frames, form.rate) != (frames, rate):
            raise InputError(
                f"{base}: clips of {form.frames} frames at {form.rate:g} per second, but those of "
                f"the run have {frames} at {rate:g}; cut them as the run's were"
            )
    like = ImageSet(
        "incoming", tuple(classes), True, (), (), _read_clip, root=base, frames=frames, rate=rate
    )
    return _incoming(replace(like, skipped=tuple(skips.entries)), samples, classes)


def incoming_of(
    image_set: ImageSet, examples: Sequence[Example], classes: Sequence[str]
) -> Incoming:
    """Take examples of a data set that has labels of its own for new ones.

    Args:
        image_set: It.
        examples: Of it.
        classes: Of the run; those of the set are matched by name.
    """
    samples = [
        _Sample(one, frozenset(image_set.classes[label] for label in one.labels))
        for one in examples
    ]
    return _incoming(image_set, samples, classes)


def _incoming(like: ImageSet, samples: Iterable[_Sample], classes: Sequence[str]) -> Incoming:
    """Match labels with the run's classes by name."""
    truth: dict[str, frozenset[int]] = {}
    foreign: Counter[str] = Counter()
    examples = []
    for example, names in samples:
        examples.append(example)
        if names is None:
            continue
        known = frozenset(at for at, name in enumerate(classes) if name in names)
        foreign.update(names.difference(classes))
        if known or not names:
            truth[example.name] = known
    whole = replace(like, pool=tuple(examples), test=(), validation=None)
    return Incoming(whole, truth, dict(sorted(foreign.items())))


def _found(base: Path, classes: Sequence[str]) -> tuple[list[Row], dict[str, Names]]:
    """Find the images of a folder; its folders are labels if one of them is a class."""
    paths = sorted(path.relative_to(base) for path in images_below(base))
    tops = {path: path.parts[0] if len(path.parts) > 1 else None for path in paths}
    labelled = any(top in classes for top in tops.values())
    names: dict[str, Names] = {
        path.as_posix(): frozenset({top}) if labelled and top is not None else None
        for path, top in tops.items()
    }
    return [Row(name, ()) for name in names], names


def _listed(table: Path, base: Path, group: str | None) -> tuple[list[Row], dict[str, Names]]:
    """Read the rows of a table, and the names of their classes."""
    rows: list[Row] = []
    names: dict[str, Names] = {}
    for number, row in read_rows(table, {"file"}):
        where = f"{table}, line {number}"
        if "label" in row and "labels" in row:
            raise InputError(f"{where}: has both 'label' and 'labels'; leave one out")
        if group is not None and not is_rule(group) and not row.get(group):
            raise InputError(f"{where}: no group in a column {group!r}; every image needs one")
        name = relative_path(row["file"], base, where)
        if name in names:
            raise InputError(f"{where}: {name} occurs a second time; give each file one row")
        rows.append(Row(name, (), None, row.get(group) if group else None))
        names[name] = _names(row)
    if not rows:
        raise InputError(f"{table}: has no rows")
    return rows, names


def _names(row: Mapping[str, str]) -> Names:
    if "labels" in row:
        return frozenset(one.strip() for one in row["labels"].split(";") if one.strip())
    return frozenset({row["label"]}) if row.get("label") else None


def _listed_clips(base: Path, skips: Skips) -> Iterable[_Sample]:
    for event, path, _ in present_clips(base, skips):
        example = Example(event.name, (), (), str(path), event.patient)
        yield _Sample(example, frozenset({event.label}))


def _clip_files(base: Path) -> Iterable[_Sample]:
    for path in sorted(base.rglob(f"*{CLIP_SUFFIX}")):
        name = path.relative_to(base)
        if not is_hidden(name):
            yield _Sample(Example(name.as_posix(), (), (), str(path)), None)


def _read_clip(example: Example) -> Pixels:
    return read_clip(str(example.path))
