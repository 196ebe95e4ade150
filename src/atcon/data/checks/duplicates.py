"""Images that occur more than once: the same pixels, or the same picture stored anew."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from atcon.data.checks.finding import Finding, counted, listed
from atcon.data.checks.similar import MOST_PAIRS, alike, close_pairs, differences
from atcon.data.checks.subject import UNLABELLED, Entry, Subject

COPY_LEVELS = 3.0
"""Root mean square difference of two thumbnails, of 255, up to which they show one photograph.

120 photographs saved at quality 50, at half size, or squashed to 64 pixels: 1.5 at most. 2,608
different photographs (VOC 2012) with similar hashes: 30 at least.
"""
ALIKE = 0.97
"""Correlation of the brightness of two thumbnails from which two images are worth a look.

The same photographs a fifth brighter, or without 2 % of each edge: 0.974 and more.
"""


Same = Sequence[Entry]
"""Images that show the same."""


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Find images with equal pixels: between parts, what is tested was seen in training."""
    apart, together = _parted(subject, _same_pixels(subject))
    if apart:
        yield Finding(
            "",
            "harm",
            f"{subject.counted(len(apart))} with equal pixels in several parts: "
            f"{_shown(subject, apart)}",
            "keep each in one part only",
            _entries(subject, apart),
        )
    if together:
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(together))} several times within a part: "
            f"{_shown(subject, together)}. Another split may divide them",
            "keep one of each, or give them one group",
            _entries(subject, together),
        )


def conflicts(subject: Subject) -> Iterator[Finding]:
    """Find images with equal pixels and different labels, which cannot both be right."""
    found = []
    for entries in _same_pixels(subject):
        labelled = [entry for entry in entries if entry.part != UNLABELLED]
        if len({entry.example.labels for entry in labelled}) > 1:
            found.append(labelled)
    if found:
        said = [
            " = ".join(f"{e.example.name} ({subject.labels(e.example)})" for e in entries)
            for entries in found
        ]
        yield Finding(
            "",
            "harm",
            f"{subject.counted(len(found))} with equal pixels and different labels: {listed(said)}",
            "decide which labels are right, and keep one of each",
            tuple(
                [{"name": e.example.name, "labels": subject.labels(e.example)} for e in entries]
                for entries in found
            ),
        )


def near_duplicates(subject: Subject) -> Iterator[Finding]:
    """Find pictures that were stored anew (resized, compressed, brightened) or are much alike.

    Images of one group may be alike; images without contrast are not compared.
    """
    readable = [pair for pair in subject.readable if not pair[1].flat]
    first_of = {look.digest: place for place, (_, look) in reversed(list(enumerate(readable)))}
    places = sorted(first_of.values())
    hashes = np.array([readable[place][1].hash for place in places], dtype=np.uint64)
    pairs = close_pairs(hashes)
    if len(pairs) >= MOST_PAIRS:
        yield Finding(
            "",
            "warning",
            f"more than {MOST_PAIRS:,} pairs of {subject.unit} are alike; only these were looked "
            "at",
            f"{subject.unit} as uniform as these need groups (patient, recording) that say what "
            "belongs together",
        )
    if not len(pairs):
        return
    thumbnails = np.array([readable[place][1].thumbnail for place in places])
    levels, correlation = differences(thumbnails, pairs)
    entries = [readable[place][0] for place in places]
    copies, similar = _sorted_out(entries, pairs, levels, correlation)
    yield from _copies(subject, copies)
    yield from _similar(subject, similar)


Found = list[tuple[Entry, Entry]]


def _sorted_out(
    entries: Sequence[Entry],
    pairs: np.ndarray,
    levels: np.ndarray,
    correlation: np.ndarray,
) -> tuple[Found, Found]:
    """Divide pairs into copies and images that are alike, the closest first."""
    copies: Found = []
    similar: Found = []
    for at in np.argsort(levels, kind="stable"):
        one, other = (entries[place] for place in pairs[at])
        if one.example.group is not None and one.example.group == other.example.group:
            continue
        if levels[at] <= COPY_LEVELS:
            copies.append((one, other))
        elif correlation[at] >= ALIKE:
            similar.append((one, other))
    return copies, similar


def _parted(subject: Subject, found: Iterable[Same]) -> tuple[list[Same], list[Same]]:
    """Tell what is found in several parts from what is found within one."""
    apart: list[Same] = []
    within: list[Same] = []
    for entries in found:
        (apart if subject.apart(entries) else within).append(entries)
    return apart, within


def _copies(subject: Subject, found: Found) -> Iterator[Finding]:
    """Copies between parts are as bad as equal pixels."""
    apart, within = _parted(subject, found)
    if apart:
        yield Finding(
            "",
            "harm",
            f"{counted(len(apart), 'pair')} of copies (resized or compressed anew) in several "
            f"parts: {_shown(subject, apart)}",
            "look at them; keep each picture in one part only, or give the two one group",
            _entries(subject, apart),
        )
    if within:
        yield Finding(
            "",
            "warning",
            f"{counted(len(within), 'pair')} of copies within a part: {_shown(subject, within)}. "
            "Another split may divide them",
            "keep one of each, or give them one group",
            _entries(subject, within),
        )


def _similar(subject: Subject, found: Found) -> Iterator[Finding]:
    """Images that are alike may be shots of one scene; a person has to look."""
    apart, within = _parted(subject, found)
    if apart:
        yield Finding(
            "",
            "warning",
            f"{counted(len(apart), 'pair')} of {subject.unit} that are much alike in several "
            f"parts: {_shown(subject, apart)}",
            "look at them: shots of one scene belong into one part (data.group)",
            _entries(subject, apart),
        )
    if within:
        yield Finding(
            "",
            "note",
            f"{counted(len(within), 'pair')} of {subject.unit} that are much alike within a part: "
            f"{_shown(subject, within)}",
            "",
            _entries(subject, within),
        )


def _same_pixels(subject: Subject) -> list[list[Entry]]:
    looks = subject.readable
    return [
        [looks[place][0] for place in places]
        for places in alike([look.digest for _, look in looks])
    ]


def _shown(subject: Subject, found: Sequence[Sequence[Entry]]) -> str:
    return listed([" = ".join(subject.placed(entries)[:3]) for entries in found])


def _entries(subject: Subject, found: Sequence[Sequence[Entry]]) -> tuple[list[str], ...]:
    return tuple(subject.placed(entries) for entries in found)
