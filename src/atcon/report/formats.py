"""Numbers as a reader sees them: true minus signs, intervals, and “–” for what is not defined."""

from dataclasses import dataclass
from math import floor, log10
from typing import Any

from atcon.errors import InputError
from atcon.report.inputs import number

UNDEFINED = "–"
MINUS = "−"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, ready to print; `text` is “–” where it is not defined."""

    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    interval: str = ""
    p: float | None = None
    p_text: str = ""

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None

    @property
    def direction(self) -> str:
        """`up` or `down` where the interval excludes zero, else `level`."""
        if self.low is not None and self.low > 0:
            return "up"
        return "down" if self.high is not None and self.high < 0 else "level"


def decimal(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Format a number with a true minus sign; “–” if there is none.

    A value that rounds to zero carries no sign.
    """
    if value is None:
        return UNDEFINED
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def ends(low: float, high: float) -> tuple[str, str]:
    """Format the two ends of a range, to two significant digits of what lies between them."""
    size = high - low or max(abs(low), abs(high)) or 1.0
    digits = max(0, 1 - floor(log10(size)))
    first, last = (
        f"{end:.1e}".replace("-", MINUS) if digits > 6 else decimal(end, digits)
        for end in (low, high)
    )
    return (first if first.strip("0.") else "0"), (last if last.strip("0.") else "0")


def probability(p: float | None) -> str:
    """Format a p value."""
    if p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """Format seconds for a reader: 42 s, 3 min 05 s, 1 h 02 min."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plain(value: float | None, digits: int = 1, *, signed: bool = False) -> Estimate:
    """Return an estimate without an interval."""
    return Estimate(value, decimal(value, digits, signed=signed))


def estimate(value: float | None, interval: Any, digits: int, where: str) -> Estimate:
    """Return a value with its `[low, high]`."""
    if interval is None or value is None:
        return plain(value, digits)
    if not isinstance(interval, list) or len(interval) != 2:
        raise InputError(f"{where}: expected [low, high], found {interval!r}")
    low, high = (number(end, where) for end in interval)
    return Estimate(value, decimal(value, digits), low, high, span(low, high, digits))


def span(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """Format an interval; empty if an end is missing."""
    if low is None or high is None:
        return ""
    return f"{decimal(low, digits, signed=signed)} to {decimal(high, digits, signed=signed)}"
