"""Errors that a user can act on: what is wrong, where, and what to do.

This module imports nothing of the others, so that the command line can report an error without
loading torch.
"""

from collections.abc import Collection
from difflib import get_close_matches


class AtconError(Exception):
    """Base of every error that `atcon` raises on purpose; the command line prints it and exits."""

    exit_code = 1


class InputError(AtconError):
    """The data, the weights, the configuration or an argument is wrong; exit code 2."""

    exit_code = 2


class BadImageError(InputError):
    """One image cannot be used; the stated policy decides whether it is skipped or ends the run."""


class BadVideoError(BadImageError):
    """One recording, event or clip cannot be used; as above.

    Attributes:
        reason: Its kind in one word, to count by.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LeakError(InputError):
    """What belongs together, such as a patient's recordings, is in two parts of a data set."""


def said(error: OSError) -> str:
    """Give the words of the system with the file that they are of, where it names one."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def no_such(kind: str, name: str, known: Collection[str]) -> InputError:
    """Say that a table has no such name; the nearest is given, and all are listed."""
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return InputError(f"no {kind} {name!r}: did you mean {nearest!r}? ({', '.join(known)})")
