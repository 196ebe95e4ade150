"""What a check of data says: findings, each with its fix, and the verdict over all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "harm"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "harm")
"""From good to know to what makes a result wrong."""

_VERDICTS: dict[Severity | None, str] = {
    None: "nothing to object to",
    "note": "nothing that would harm an experiment",
    "warning": "an experiment would run, but read the warnings first",
    "harm": "an experiment on these data would be harmed",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        name: The check, a name of `atcon.data.checks.CHECKS`.
        severity: "note" (good to know), "warning" (look at it) or "harm" (a result would be wrong,
            or there would be none).
        what: What was found, in numbers, with the first few names.
        fix: What to do about it; empty where there is nothing to do.
        entries: Everything that was found, in full: names, or lists and mappings of them.
    """

    name: str
    severity: Severity
    what: str
    fix: str = ""
    entries: tuple[Any, ...] = ()


@dataclass(frozen=True)
class DataCheck:
    """What a check of a data set found.

    Attributes:
        data: The data set's name.
        root: Its folder, or None.
        counts: Images, or clips, by part.
        classes: Readable images by part and class.
        findings: The worst first.
        unit: What is counted: images or clips.
    """

    data: str
    root: str | None
    counts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    unit: str = "images"

    @property
    def severity(self) -> Severity | None:
        """The worst severity found; None without findings."""
        return self.findings[0].severity if self.findings else None

    @property
    def ok(self) -> bool:
        """Whether nothing would harm an experiment."""
        return self.severity != "harm"

    @property
    def verdict(self) -> str:
        """One line: how many findings of each severity, and what that means."""
        found = [finding.severity for finding in self.findings]
        said = [
            counted(found.count(severity), severity)
            for severity in reversed(SEVERITIES)
            if severity in found
        ]
        return ": ".join([*([", ".join(said)] if said else []), _VERDICTS[self.severity]])

    def named(self, name: str) -> tuple[Finding, ...]:
        """Give the findings of one check."""
        return tuple(finding for finding in self.findings if finding.name == name)

    def to_record(self) -> dict[str, Any]:
        """Give all that was found, for JSON."""
        return {
            "data": self.data,
            "root": self.root,
            "unit": self.unit,
            "counts": dict(self.counts),
            "classes": {part: dict(found) for part, found in self.classes.items()},
            "severity": self.severity,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
        }


def counted(count: int, noun: str) -> str:
    """Say how many: 1 image, 2 images, 2 classes, 2 boxes."""
    plural = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Join the first few names and say how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
