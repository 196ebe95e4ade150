"""Who is told how a run goes: the command line draws bars or lines, a library call stays silent."""

from collections.abc import Mapping
from typing import Self


class Progress:
    """Says nothing; the base of every display.

    Under `with`, a piece of work that an error or the user cuts short is finished on the screen.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def note(self, text: str) -> None:
        """Show a line that should be read."""

    def begin(self, title: str, total: int, unit: str = "") -> None:
        """Start a piece of work of so many steps, or images, or clips."""

    def advance(self, values: Mapping[str, float], steps: int = 1) -> None:
        """Take steps in the current piece of work, with the latest values."""

    def milestone(self, text: str) -> None:
        """Show the result of an epoch within the current piece of work."""

    def end(self) -> None:
        """Finish the current piece of work."""
