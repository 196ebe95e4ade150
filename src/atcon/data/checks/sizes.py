"""Sizes and pixel formats: suspicious ones, and those that give the class away."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from statistics import median

from atcon.data.checks.finding import Finding, listed
from atcon.data.checks.look import Look
from atcon.data.checks.subject import UNLABELLED, Entry, Subject

SMALL = 8
"""Pixels of the shorter side below which an image can hardly show anything."""
STRETCHED = 5.0
"""Longer side over shorter side from which squashing to a square distorts badly."""
TELLING = 0.9
"""Share of a class that has a property, and of another that has not, that give the class away."""
_ENOUGH = 5  # images of a class, for such a share to mean anything


def sizes(subject: Subject) -> Iterator[Finding]:
    """Find images that are tiny, stretched or of one colour, and say how large the others are."""
    looks = subject.readable
    tiny = [_sized(e, look) for e, look in looks if min(look.size) < SMALL]
    if tiny:
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(tiny))} with fewer than {SMALL} pixels a side: {listed(tiny)}",
            "see whether these are thumbnails or failed exports",
            tuple(tiny),
        )
    long = [_sized(e, look) for e, look in looks if _aspect(look) > STRETCHED]
    if long:
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(long))} more than {STRETCHED:g} times as long as wide: "
            f"{listed(long)}. Squashed to a square they are distorted",
            "crop them",
            tuple(long),
        )
    constant = [entry.name for entry, look in looks if look.constant]
    if constant:
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(constant))} of one colour, without content: {listed(constant)}",
            "see whether these are failed exports",
            tuple(constant),
        )
    if looks:
        yield _range([look.size for _, look in looks], subject.unit)


def modes(subject: Subject) -> Iterator[Finding]:
    """Count pixel formats (RGB, grey, transparent, …), all of which a run turns into RGB."""
    counts = Counter(look.mode for _, look in subject.readable if look.mode is not None)
    if len(counts) > 1:
        said = ", ".join(f"{mode} {count:,}" for mode, count in counts.most_common())
        names = {
            mode: [entry.name for entry, look in subject.readable if look.mode == mode]
            for mode, _ in counts.most_common()[1:]
        }
        yield Finding(
            "",
            "note",
            f"several pixel formats: {said}. All become RGB",
            "",
            tuple({"mode": mode, "images": found} for mode, found in names.items()),
        )


def shortcuts(subject: Subject) -> Iterator[Finding]:
    """Find formats and sizes that belong to some classes only: a network would learn those."""
    formats = {entry.example.name: look.mode for entry, look in subject.readable}
    shapes = {entry.example.name: f"{w} x {h}" for entry, (w, h) in _shapes(subject)}
    for kind, values in (("pixel format", formats), ("size", shapes)):
        for value, with_it, without in _telling(subject, values):
            yield Finding(
                "",
                "warning",
                f"the {kind} {value} gives the class away: nearly all {subject.unit} of "
                f"{listed(with_it)} have it, hardly any of {listed(without)}",
                "export all classes in the same way, or the network may learn the difference",
                ({kind: value, "with": with_it, "without": without},),
            )


def _telling(
    subject: Subject, values: Mapping[str, str | None]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Give values that nearly all images of some classes have, and hardly any of others."""
    counts: dict[int, Counter[str | None]] = defaultdict(Counter)
    for entry in subject.labelled:
        if entry.example.name in values and len(entry.example.labels) == 1:
            counts[entry.example.labels[0]][values[entry.example.name]] += 1
    counts = {label: found for label, found in counts.items() if found.total() >= _ENOUGH}
    names = subject.image_set.classes
    for value in sorted({v for found in counts.values() for v in found if v is not None}):
        shares = {names[label]: found[value] / found.total() for label, found in counts.items()}
        with_it = [name for name, share in shares.items() if share >= TELLING]
        without = [name for name, share in shares.items() if share <= 1 - TELLING]
        if with_it and without:
            yield value, with_it, without


def _shapes(subject: Subject) -> Iterator[tuple[Entry, tuple[int, int]]]:
    for entry, look in subject.readable:
        if entry.part != UNLABELLED:
            yield entry, look.size


def _range(found: list[tuple[int, int]], unit: str) -> Finding:
    counts = Counter(found)
    (width, height), count = counts.most_common(1)[0]
    if len(counts) == 1:
        what = f"all {unit} have {width} x {height} pixels"
    else:
        areas = sorted(counts, key=lambda size: size[0] * size[1])
        small, large = (f"{w} x {h}" for w, h in (areas[0], areas[-1]))
        middle = median(min(size) for size in found)
        what = (
            f"{len(counts):,} sizes, from {small} to {large} pixels, median of the shorter side "
            f"{middle:g}; {count:,} {unit} have {width} x {height}"
        )
    entries = tuple({"size": list(size), "images": n} for size, n in counts.most_common())
    return Finding("", "note", what, "", entries)


def _aspect(look: Look) -> float:
    return max(look.size) / min(look.size)


def _sized(entry: Entry, look: Look) -> str:
    return f"{entry.name} {look.size[0]} x {look.size[1]}"
