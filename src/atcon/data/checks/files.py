"""Images that cannot be read, and what indexing had to leave out or repair."""

from collections.abc import Iterator

from atcon.data.checks.finding import Finding, counted, listed
from atcon.data.checks.subject import Subject


def unreadable(subject: Subject) -> Iterator[Finding]:
    """Find images that cannot be decoded, and rows and annotations that cannot be used."""
    broken = [(e.name, str(e.seen)) for e in subject.entries if isinstance(e.seen, str)]
    skipped = list(subject.image_set.skipped)
    says = "a run would end there" if subject.ends_run else "a run would leave them out"
    for names, what in ((broken, "cannot be read"), (skipped, "cannot be used")):
        if names:
            yield Finding(
                "",
                "harm",
                f"{subject.counted(len(names))} {what}: {listed([name for name, _ in names])}; "
                f"{says}. The first: {names[0][1]}",
                "fetch or export them again, or remove them from the data set",
                tuple({"name": name, "reason": reason} for name, reason in names),
            )


def repaired(subject: Subject) -> Iterator[Finding]:
    """Find boxes outside their image, and other annotations that were mended to be used."""
    remarks = [(name, text) for name, text in subject.image_set.notes if name.startswith("data.")]
    for key, text in remarks:  # on how the data set was made, not on one of its images
        yield Finding("", "note", f"{key}: {text}")
    notes = [note for note in subject.image_set.notes if note not in remarks]
    if not notes:
        return
    boxed = sum(bool(entry.example.boxes) for entry in subject.entries)
    images = len({name for name, _ in notes})
    often = images > 0.05 * max(boxed, 1)
    says = (
        f"{counted(len(notes), 'box')} or other annotations outside their image or not usable "
        f"({listed(sorted({name for name, _ in notes}))}). The first: {notes[0][1]}"
    )
    yield Finding(
        "",
        "harm" if often or subject.ends_run else "warning",
        f"{says}. That is so often that the coordinates may be of other images or sizes"
        if often
        else says,
        "see whether boxes are edges in pixels (left, top, right, bottom) of the upright image",
        tuple({"name": name, "remark": remark} for name, remark in notes),
    )
