"""Read a data set once, and say what in it would harm an experiment."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from atcon.data.checks.classes import class_counts
from atcon.data.checks.finding import SEVERITIES, DataCheck
from atcon.data.checks.look import look_at_all
from atcon.data.checks.subject import TEST, TRAIN, UNLABELLED, VALIDATION, Entry, Subject
from atcon.data.checks.table import CHECKS
from atcon.data.few_shot import Split
from atcon.data.image_set import ImageSet
from atcon.errors import InputError
from atcon.types import Example

Problem = Callable[[Example], str | None]


def check_data(
    image_set: ImageSet,
    *,
    unlabelled: ImageSet | None = None,
    draw: Callable[[Problem], Split] | None = None,
    ends_run: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> DataCheck:
    """Check a data set: files, duplicates, groups, classes, boxes, sizes.

    Every image is read once, in parallel; hashes and sizes are kept, a kilobyte for each.

    Args:
        image_set: The data set.
        unlabelled: Images that are trained on without labels.
        draw: Draws the split of a run, given why an image cannot be used (None: it can).
        ends_run: Whether a run ends at an image that cannot be used.
        advance: Is told how many more images were read.

    Returns:
        The findings, the worst first. Nothing that is wrong with the images raises an error.
    """
    entries: list[Entry] = []
    sets = [(image_set, TRAIN, image_set.pool)]
    sets += [(image_set, VALIDATION, image_set.validation or ())]
    sets += [(image_set, TEST, image_set.test)]
    if unlabelled is not None:
        sets += [(unlabelled, UNLABELLED, unlabelled.pool)]
    for source, part, examples in sets:
        seen = look_at_all(source, examples, advance)
        entries += [Entry(e, part, s) for e, s in zip(examples, seen, strict=True)]
    subject = _with_split(Subject(image_set, tuple(entries), ends_run=ends_run), draw)
    findings = [
        replace(finding, name=name) for name, look in CHECKS.items() for finding in look(subject)
    ]
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return DataCheck(
        data=image_set.name,
        root=None if image_set.root is None else str(image_set.root),
        counts=Counter(entry.part for entry in entries),
        classes=class_counts(subject),
        findings=tuple(findings),
        unit=image_set.unit,
    )


def _with_split(subject: Subject, draw: Callable[[Problem], Split] | None) -> Subject:
    """Draw the split of a run from what could be read."""
    if draw is None:
        return subject
    broken = {e.example.name: e.seen for e in subject.entries if isinstance(e.seen, str)}
    try:
        return replace(subject, split=draw(lambda example: broken.get(example.name)))
    except InputError as error:
        return replace(subject, refused=str(error))
