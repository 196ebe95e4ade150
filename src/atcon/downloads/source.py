"""A published file, how one on the disk is held against it, and who is told of a download."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Source:
    """A published file.

    Attributes:
        what: What it is, for people.
        url: Where it is.
        sha256: Of its content, in hexadecimal; the first eight digits at least.
        size: Its bytes, where they were published.
    """

    what: str
    url: str
    sha256: str
    size: int | None = None


def mismatch(path: Path, source: Source) -> str | None:
    """Say in what a file differs from the published one; None if it is that."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"{size:,} bytes instead of {source.size:,}"
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if not found.startswith(source.sha256):
        return f"its SHA-256 begins with {found[:8]} instead of {source.sha256[:8]}"
    return None


class Watcher(Protocol):
    """Who is told how a download goes; the displays of the command line are such."""

    def note(self, text: str) -> None:
        """Show a line."""

    def begin(self, title: str, total: int) -> None:
        """Start to count megabytes."""

    def advance(self, values: Mapping[str, float], steps: int = 1) -> None:
        """Count some more."""

    def end(self) -> None:
        """Stop counting."""


class Silent:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def begin(self, title: str, total: int) -> None:
        """Say nothing."""

    def advance(self, values: Mapping[str, float], steps: int = 1) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


SILENT = Silent()
