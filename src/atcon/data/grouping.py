"""Whom or what an image was taken of: its folder, a part of its file name, or a DICOM patient."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from atcon.data.dicom import is_dicom, patient_of
from atcon.data.policy import Skips
from atcon.data.rows import Row
from atcon.errors import BadImageError, InputError

FOLDER, PATIENT = "folder", "patient"


def is_rule(rule: str) -> bool:
    """Whether it says how groups are found: a name, or a regular expression with a group in it."""
    return rule in (FOLDER, PATIENT) or "(" in rule


def grouped(
    rows: Sequence[Row],
    rule: str | None,
    base: Path,
    skips: Skips,
    depth: Callable[[Row], int] | None = None,
) -> list[Row]:
    """Give every row the group that the rule says; rows that all have one already keep it.

    Args:
        rows: Of a data set.
        rule: `folder`: the folder that an image lies in, of class folders the first one below
            them; `patient`: the PatientID of a DICOM file; or a regular expression with one group,
            searched for in the name of the file (without its folders). None: no groups.
        base: The root, which the names are relative to.
        skips: Receives DICOM files that cannot be read.
        depth: How many folders stand above the images of a row's class; None where images lie in
            no class folders.

    Raises:
        InputError: The rule is none of them, or says nothing of some file.
        BadImageError: A DICOM file cannot be read and the policy is "error".
    """
    rows = list(rows)
    if rule is None or (rows and all(row.group is not None for row in rows)):
        return rows
    found = []
    find = _finder(rule, base, depth)
    for row in rows:
        try:
            found.append(replace(row, group=find(row) or None))
        except BadImageError as error:
            skips.add(row.name, error)
    lacking = [row.name for row in found if row.group is None]
    if lacking:  # such an image could be of a group in another part
        some = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        raise InputError(
            f"data.group: {rule!r} says nothing of {len(lacking)} files ({some}); every image "
            f"needs its group"
        )
    return found


def _finder(
    rule: str, base: Path, depth: Callable[[Row], int] | None
) -> Callable[[Row], str | None]:
    if rule == PATIENT:
        return lambda row: _patient(base / row.name)
    if rule == FOLDER:
        return lambda row: _folder(row, depth)
    if not is_rule(rule):
        raise InputError(
            f"data.group: {rule!r} is no rule; use 'folder' (of class folders their sub-folders, "
            f"CLASS/GROUP/IMAGE), 'patient' (of DICOM files), or a regular expression with one "
            f"(group) for the file names"
        )
    pattern = _pattern(rule)
    return lambda row: _matched(pattern, row)


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


def _folder(row: Row, depth: Callable[[Row], int] | None) -> str | None:
    folders = PurePosixPath(row.name).parts[:-1]
    if depth is None:
        return folders[-1] if folders else None
    below = folders[depth(row) :]
    return below[0] if below else None


def _patient(path: Path) -> str | None:
    return patient_of(path) if is_dicom(path) else None
