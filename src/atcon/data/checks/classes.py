"""How many images the classes have, and whether the split that a run needs can be drawn."""

from collections import Counter
from collections.abc import Iterator

from atcon.data.checks.finding import Finding, counted, listed
from atcon.data.checks.subject import TEST, TRAIN, UNLABELLED, Subject

UNBALANCED = 10
"""Images of the largest class for each of the smallest, from which that is worth a warning."""
FEW = 10
"""Test images of a class below which its metrics say little."""


def split(subject: Subject) -> Iterator[Finding]:
    """See whether the images that a run asks for exist."""
    if subject.refused is not None:
        yield Finding(
            "", "harm", f"a run could not draw its {subject.unit}: {subject.refused}", "", ()
        )


def classes(subject: Subject) -> Iterator[Finding]:
    """Count the images of every class in every part."""
    counts = class_counts(subject)
    one = "a clip" if subject.unit == "clips" else "an image"
    for part, found in counts.items():
        missing = [name for name, count in found.items() if not count]
        if missing and part in {TRAIN, TEST}:
            yield Finding(
                "",
                "harm",
                f"{counted(len(missing), 'class')} without {one} in the {part} part: "
                f"{listed(missing)}",
                f"add {subject.unit}, or leave the classes out (data.classes)",
                tuple(missing),
            )
    few = [f"{name} ({count})" for name, count in counts[TEST].items() if 0 < count < FEW]
    if few:
        yield Finding(
            "",
            "warning",
            f"{counted(len(few), 'class')} with fewer than {FEW} test {subject.unit}: "
            f"{listed(few)}. "
            "Their metrics, and the means over classes, will be uncertain",
            f"add test {subject.unit}",
            tuple(few),
        )
    if counts[TRAIN]:
        yield _balance(counts[TRAIN], subject.unit)


def unlabelled(subject: Subject) -> Iterator[Finding]:
    """Find images that show none of the classes."""
    names = [entry.name for entry in subject.labelled if not entry.example.labels]
    if names:
        yield Finding(
            "",
            "note" if subject.image_set.multi_label else "harm",
            f"{subject.counted(len(names))} without any label: {listed(names)}",
            ""
            if subject.image_set.multi_label
            else f"one label is needed for each {subject.unit.removesuffix('s')}",
            tuple(names),
        )


def class_counts(subject: Subject) -> dict[str, dict[str, int]]:
    """Count readable images by part and class."""
    names = subject.image_set.classes
    parts = sorted({entry.part for entry, _ in subject.readable} | {TRAIN, TEST})
    counts = {part: dict.fromkeys(names, 0) for part in parts if part != UNLABELLED}
    for entry, _ in subject.readable:
        for label in entry.example.labels:
            counts[entry.part][names[label]] += 1
    return counts


def _balance(counts: dict[str, int], unit: str) -> Finding:
    ordered = Counter(counts).most_common()
    (large, most), (small, least) = ordered[0], ordered[-1]
    said = ", ".join(f"{name} {count:,}" for name, count in ordered[:8])
    more = f" and {len(ordered) - 8} more classes" if len(ordered) > 8 else ""
    unbalanced = most >= UNBALANCED * max(least, 1)
    return Finding(
        "",
        "warning" if unbalanced else "note",
        f"{unit} by class, train part: {said}{more}"
        + (f". {large} has {most / max(least, 1):.0f} times the {unit} of {small}" * unbalanced),
        "the draw of N per class is even, validation and test are not: judge by means over classes"
        if unbalanced
        else "",
        tuple({"class": name, "images": count} for name, count in ordered),
    )
