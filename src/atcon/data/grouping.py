"""Whom or what an image was taken of: its folder, or a part of its file name."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from atcon.data.rows import Row
from atcon.errors import InputError

FOLDER = "folder"
"""The rule of class folders with a sub-folder for each group."""


def is_pattern(rule: str) -> bool:
    """Whether a rule is a regular expression: it has a group in parentheses."""
    return "(" in rule


def grouped(rows: Sequence[Row], rule: str, depth: Callable[[Row], int] | None = None) -> list[Row]:
    """Give every row the group that its name says.

    Args:
        rows: Of a data set.
        rule: `folder`: the sub-folder of the class folder; or a regular expression with one group,
            searched for in the name of the file (without its folders).
        depth: How many folders stand above the images of a row's class; None where images lie in
            no class folders, and `folder` is no rule.

    Raises:
        InputError: The rule is none of them, or says nothing of some file.
    """
    if is_pattern(rule):
        pattern = _pattern(rule)
        found = [_matched(pattern, row) for row in rows]
    elif rule == FOLDER and depth is not None:
        found = [_sub_folder(row, depth(row)) for row in rows]
    else:
        raise InputError(
            f"data.group: {rule!r} is no rule for class folders; use 'folder' (the sub-folder of "
            f"the class folder, CLASS/GROUP/IMAGE), or a regular expression with one (group) for "
            f"the file names"
        )
    _refuse(f"data.group: {rule!r} says nothing of", rows, found)
    return [replace(row, group=group) for row, group in zip(rows, found, strict=True)]


def _pattern(rule: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(f"data.group: {rule!r} is no regular expression ({error})") from None
    if pattern.groups != 1:
        raise InputError(
            f"data.group: {rule!r} has {pattern.groups} groups in parentheses, and needs one; "
            f"write (?:…) for the others"
        )
    return pattern


def _matched(pattern: re.Pattern[str], row: Row) -> str | None:
    found = pattern.search(PurePosixPath(row.name).name)
    return None if found is None else found[1]


def _sub_folder(row: Row, depth: int) -> str | None:
    folders = PurePosixPath(row.name).parts[depth:-1]
    return folders[0] if folders else None


def _refuse(what: str, rows: Iterable[Row], found: Iterable[str | None]) -> None:
    """An image whose group is not known could be of a group in another part."""
    lacking = [row.name for row, group in zip(rows, found, strict=True) if not group]
    if lacking:
        some = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        raise InputError(f"{what} {len(lacking)} files ({some}); every image needs its group")
