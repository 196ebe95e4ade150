"""A table of the paper on the page of an experiment: its numbers beside ours, per metric."""

from collections.abc import Iterator
from dataclasses import dataclass

from atcon.report.formats import Estimate, decimal, plain, probability, span
from atcon.report.inputs import Record, dig, dig_list, dig_number


@dataclass(frozen=True)
class Entry:
    """What the paper prints at a size, with its star, and what was found here.

    Attributes:
        printed: The paper's number, its star and its interval; empty where it prints none.
        own: Our mean over seeds.
        change: Its difference from the row compared with; None at that row.
        clear: Whether the difference has a star.
    """

    printed: str
    own: Estimate
    change: Estimate | None
    clear: bool


@dataclass(frozen=True)
class PaperTable:
    """One metric: what it is, what its rows are compared with, its columns, its named rows.

    `note` says what the intervals are taken over.
    """

    title: str
    note: str
    against: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def has_printed(self) -> bool:
        """Whether the paper prints any of it."""
        return any(entry.printed for _, entries in self.rows for entry in entries)


def paper_tables(page: Record) -> list[PaperTable]:
    """Read the tables of an experiment that has those of the paper.

    Raises:
        InputError: They hold something else than they should.
    """
    return [_table(one) for one in dig_list(page, "tables")]


def _table(one: Record) -> PaperTable:
    heads = tuple(f"N = {size}" for size in dig_list(one, "sizes"))
    title, note, against = (str(dig(one, key) or "") for key in ("title", "note", "against"))
    return PaperTable(title, note, against, heads, tuple(_rows(one)))


def _rows(one: Record) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    for row in dig_list(one, "rows"):
        names = filter(None, (dig(row, "network"), dig(row, "title")))
        yield ", ".join(map(str, names)), tuple(map(_entry, dig_list(row, "entries")))


def _entry(record: Record) -> Entry:
    difference = dig(record, "difference")
    change = None if difference is None else _estimate(difference, signed=True)
    clear = dig(record, "difference", "star") is True
    return Entry(_printed(dig(record, "printed")), _estimate(record), change, clear)


def _printed(record: Record | None) -> str:
    value, low, high = (dig_number(record, key) for key in ("value", "low", "high"))
    if value is None:
        return ""
    star = "*" if dig(record, "star") is True else ""
    interval = span(low, high, 1)
    return f"{decimal(value)}{star}{f' ({interval})' if interval else ''}"


def _estimate(record: Record, *, signed: bool = False) -> Estimate:
    value, low, high, p = (dig_number(record, key) for key in ("value", "low", "high", "p"))
    if value is None:
        return plain(None)
    text, interval = decimal(value, signed=signed), span(low, high, 1, signed=signed)
    return Estimate(value, text, low, high, interval, p, "" if p is None else probability(p))
