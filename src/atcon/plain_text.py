"""Names that others gave, as plain text: a terminal does not obey them, a spreadsheet counts none.

A class, a file or a patient can be called anything. This module imports nothing of the others.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet takes for a formula, also with the marks of full width that some accept."""


def printable(text: str) -> str:
    """Replace every mark that does not print, a new line among them.

    Such as those that move a terminal's cursor, turn the direction of what follows, or have no
    width; and halves of characters, which a file name that is not UTF-8 has.
    """
    return "".join(mark if mark.isprintable() else "�" for mark in text)


def is_unicode(text: str) -> bool:
    """Whether a text holds no half of a character, which UTF-8 cannot write."""
    return not any("\ud800" <= mark <= "\udfff" for mark in text)


def printable_lines(text: str) -> str:
    """Do the same to each line; further ones stand further in, so none looks like the first."""
    first, *rest = map(printable, text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in rest)])


def printable_json(record: Mapping[str, Any] | Sequence[Any]) -> str:
    """Write a record as JSON for the eye; what does not print is escaped, so it is read back."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    return "".join(
        mark if mark.isprintable() or mark == "\n" else json.dumps(mark)[1:-1] for mark in text
    )


def as_text(value: str) -> str:
    """Keep a cell of a table from being read as a formula by a spreadsheet; numbers stay.

    `as_written` gives the value back.
    """
    return f"'{value}" if _FORMULA.match(value) and not _is_number(value) else value


def as_written(cell: str) -> str:
    """Give what `as_text` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
