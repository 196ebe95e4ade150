"""The page's style sheet, read for what a chart needs of it where there is no browser."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from atcon.report.page import asset

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_MEDIA = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_ANY_OF = re.compile(r":is\(([^)]*)\)([\w.-]*)")
_PLAIN = re.compile(r"(?:svg )?(\w+)?((?:\.[\w-]+)*)")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")

Look = Mapping[str, str]
"""Properties of one element, as text, without variables."""


@dataclass(frozen=True)
class _Rule:
    """What is said of elements of a tag, or any, that have all of some classes."""

    tag: str
    classes: frozenset[str]
    said: Look

    @property
    def weight(self) -> tuple[int, int]:
        return len(self.classes), int(bool(self.tag))


def look_of(tag: str, classes: str) -> Look:
    """Give the light theme's properties of an element inside an SVG.

    Rules of one element are read; those on what surrounds it, such as `.legend .key`, are not.

    Args:
        tag: Such as `path`.
        classes: With spaces between them.
    """
    own = frozenset(classes.split())
    fitting = [rule for rule in _rules() if rule.tag in ("", tag) and rule.classes <= own]
    found: dict[str, str] = dict(_palette())
    for rule in sorted(fitting, key=lambda rule: rule.weight):  # stable: the last of equals wins
        found |= rule.said
    return {key: _resolved(value, found) for key, value in found.items() if key[:2] != "--"}


def _resolved(value: str, known: Look) -> str:
    while variable := _VARIABLE.search(value):
        value = value.replace(variable[0], known[variable[1]])
    return value


@lru_cache
def _rules() -> tuple[_Rule, ...]:
    found = []
    for selectors, said in _RULE.findall(_MEDIA.sub("", _text())):
        for selector in _separate(selectors):
            plain = _PLAIN.fullmatch(selector)
            if plain and selector:
                tag, classes = plain[1] or "", frozenset(plain[2].split(".")[1:])
                found.append(_Rule(tag, classes, _declarations(said)))
    return tuple(found)


def _separate(selectors: str) -> list[str]:
    """Write `:is(.a, .b).c, .d` out as `.a.c`, `.b.c` and `.d`."""

    def each(choice: re.Match[str]) -> str:
        return ",".join(f"{one.strip()}{choice[2]}" for one in choice[1].split(","))

    return [one.strip() for one in _ANY_OF.sub(each, selectors).split(",")]


def _declarations(text: str) -> dict[str, str]:
    pairs = (one.partition(":") for one in text.split(";") if ":" in one)
    return {key.strip(): value.strip() for key, _, value in pairs}


@lru_cache
def _palette() -> Look:
    """The colours of the light theme, which stand first; paper is white."""
    first = _RULE.search(_text())
    declared = _declarations(first[2]) if first else {}
    return {key: value for key, value in declared.items() if key[:2] == "--"} | {"--paper": "#fff"}


@lru_cache
def _text() -> str:
    return _COMMENT.sub("", str(asset("report.css")))
