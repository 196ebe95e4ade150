"""Class names: their positions, and errors that name the nearest valid one."""

from collections.abc import Sequence
from difflib import get_close_matches

from atcon.errors import InputError


def label_index(label: str, classes: Sequence[str], where: object) -> int:
    """Give the position of `label` in `classes`.

    Raises:
        InputError: The label is not a class; names `where` it stands and the nearest class.
    """
    if label in classes:
        return classes.index(label)
    near = get_close_matches(label, classes, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the classes are {', '.join(classes)}"
    raise InputError(f"{where}: label {label!r} is not in the class list; {hint}")


def check_classes(classes: Sequence[str], where: object) -> tuple[str, ...]:
    """Give the class list as a tuple; it must hold two names or more, without repetition."""
    if len(classes) < 2:
        raise InputError(f"{where}: at least two classes are needed, found {list(classes)}")
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise InputError(f"{where}: class names occur twice: {', '.join(twice)}")
    return tuple(classes)
