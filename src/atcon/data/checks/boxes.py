"""Boxes and labels that do not belong together."""

from collections.abc import Iterator

from atcon.data.checks.finding import Finding, listed
from atcon.data.checks.subject import Subject


def boxes(subject: Subject) -> Iterator[Finding]:
    """Find boxes outside the image, boxes of classes that their image has not, and the reverse."""
    outside, stray, bare = [], [], []
    for entry in subject.labelled:
        labels, boxed = set(entry.example.labels), {box.label for box in entry.example.boxes}
        inside = all(
            0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1
            for box in entry.example.boxes
        )
        outside += [] if inside else [entry.name]
        stray += [entry.name] if boxed - labels else []
        bare += [entry.name] if labels - boxed else []
    if outside:
        yield Finding(
            "",
            "harm",
            f"{subject.counted(len(outside))} with boxes without area or outside of the image: "
            f"{listed(outside)}",
            "correct the coordinates",
            tuple(outside),
        )
    if stray:
        yield Finding(
            "",
            "harm",
            f"{subject.counted(len(stray))} with boxes of classes that they are not labelled as: "
            f"{listed(stray)}",
            "correct the labels or the boxes",
            tuple(stray),
        )
    if bare and any(entry.example.boxes for entry in subject.labelled):
        yield Finding(
            "",
            "warning",
            f"{subject.counted(len(bare))} with labels without a box: {listed(bare)}. Where maps "
            "are compared with boxes, these labels do not count",
            "add the boxes, if the objects can be seen",
            tuple(bare),
        )
