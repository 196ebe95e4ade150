"""Names that try to be more than names, and objects that act when they are read."""

from collections.abc import Callable
from pathlib import Path

NAMES = (
    "<script>window.ran = 1</script>",
    "\"><img src=x onerror='window.ran = 2'>",
    "</script><svg/onload=window.ran=3>",
    "{{ 7 * 7 }}{% raw %}",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://example.invalid","x")',
    "+1+1",
    "-1+cmd",
    "@SUM(1)",
    "'=1+1",
    "\uff1d1+1",
    "esc \x1b[2J\x1b]0;title\x07 end",
    "csi \x9b31m end",
    "two\nharm     forged",
    "carriage\rreturn",
    "right \u202eto left\u202c end",
    "isolate \u2067end",
    "zero\u200bwidth\ufeff",
    "[bold red]markup",
    "a;=1+1",
    "x" * 300,
)
"""HTML, script, formulas, terminal escapes, new lines, turned direction, markup, 300 characters."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

FAST = (
    "supervised.epochs=1", "consistency.epochs=2", "controls.uniform=false", "data.test_images=6",
    "data.validation_images=6", "evaluation.gallery=2", "evaluation.resamples=100",
)  # fmt: skip
"""What makes a tiny run tinier."""


class Canary:
    """Creates a file when it is unpickled, as hostile weights would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def steers(text: str) -> list[str]:
    """The marks in what a terminal was sent that it could obey, or that hide what is there."""
    return [mark for mark in text if mark != "\n" and not mark.isprintable()]
