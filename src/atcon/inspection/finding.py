"""What an inspection says: findings, each with its fix, and the verdict over all of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
"""From harmless to fatal."""

_VERDICTS: dict[Level, str] = {
    "ok": "ready to train for consistency",
    "note": "ready to train for consistency; read the notes",
    "warning": "training would run, but read the warnings first: its result may mean little",
    "error": "not ready: training for consistency would fail or learn nothing",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: The check, a name of `atcon.inspection.CHECKS`.
        level: "ok", "note" (good to know), "warning" (the result may mean little) or "error".
        what: What was found, in numbers where there are any.
        fix: What to do about it; empty where there is nothing to do.
        values: The numbers of `what`, for programs.
    """

    name: str
    level: Level
    what: str
    fix: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """What `atcon.check` found.

    Attributes:
        model: The network, and what it was given, in words.
        findings: In the order of the table.
        skipped: Checks that need what an error of another check prevents.
    """

    model: str
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """The worst level found."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")

    @property
    def ok(self) -> bool:
        """Whether nothing prevents training."""
        return self.level != "error"

    @property
    def verdict(self) -> str:
        """One line: how many findings of each level, and what that means."""
        levels = [finding.level for finding in self.findings]
        said = [
            counted(levels.count(level), level)
            for level in reversed(LEVELS)
            if level in levels and level != "ok"
        ]
        return f"{', '.join(said) or 'no objections'}: {_VERDICTS[self.level]}"

    def named(self, name: str) -> tuple[Finding, ...]:
        """Give the findings of one check."""
        return tuple(finding for finding in self.findings if finding.name == name)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.model
        for finding in self.findings:
            yield f"{finding.level:<8} {finding.name}: {finding.what}"
            if finding.fix:
                yield f"{'':<8} -> {finding.fix}"
        if self.skipped:
            yield f"not checked, because of the error: {', '.join(self.skipped)}"
        yield self.verdict


def ok(what: str, **values: Any) -> Finding:
    """Say that something is as it should be; the table gives the name."""
    return Finding("", "ok", what, "", values)


def note(what: str, fix: str = "", **values: Any) -> Finding:
    """Say something good to know."""
    return Finding("", "note", what, fix, values)


def warning(what: str, fix: str, **values: Any) -> Finding:
    """Say what may make the result mean little."""
    return Finding("", "warning", what, fix, values)


def error(what: str, fix: str, **values: Any) -> Finding:
    """Say what would make training fail or learn nothing."""
    return Finding("", "error", what, fix, values)


def counted(count: int, noun: str) -> str:
    """Say how many: 1 layer, 2 layers."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: list[str], most: int = 3) -> str:
    """Join the first few names and say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
