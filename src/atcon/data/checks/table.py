"""The table of checks of data, in the order in which they are run."""

from collections.abc import Callable, Iterator

from atcon.data.checks import boxes, classes, duplicates, files, groups, sizes
from atcon.data.checks.finding import Finding
from atcon.data.checks.subject import Subject

Looks = Callable[[Subject], Iterator[Finding]]

CHECKS: dict[str, Looks] = {
    "unreadable": files.unreadable,
    "split": classes.split,
    "duplicates": duplicates.duplicates,
    "near_duplicates": duplicates.near_duplicates,
    "conflicts": duplicates.conflicts,
    "groups": groups.groups,
    "classes": classes.classes,
    "unlabelled": classes.unlabelled,
    "boxes": boxes.boxes,
    "repaired": files.repaired,
    "sizes": sizes.sizes,
    "modes": sizes.modes,
    "shortcuts": sizes.shortcuts,
}
"""Every check by its name: what it finds in a data set."""
