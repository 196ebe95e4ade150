"""What was done in the run, in words: data, network, stages, and what was left out."""

from collections import Counter
from collections.abc import Iterator, Mapping

from atcon.report.formats import decimal, duration
from atcon.report.inputs import Record, Run, dig, dig_list, dig_number
from atcon.report.wording import unit_of


def facts(run: Run) -> list[tuple[str, str]]:
    """Return what was done, as terms and descriptions."""
    return [(term, text) for term, text in _facts(run) if text]


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    summary = run.summary
    classes = dig_list(summary, "classes")
    samples = unit_of(summary)
    each = f"per {samples.removesuffix('s')}"
    kind = f"several {each} possible" if dig(summary, "multi_label") else f"one {each}"
    yield "Data", str(dig(summary, "data") or "")
    yield "Classes", f"{len(classes)} ({kind}): {', '.join(map(str, classes))}"
    yield f"{samples.capitalize()} per class", _images_per_class(run.split)
    yield samples.capitalize(), _counts(summary)
    frames, rate = dig_number(summary, "clip", "frames"), dig_number(summary, "clip", "rate")
    if frames is not None and rate is not None:
        yield "Frames per clip", f"{frames:.0f}, at {rate:g} per second"
    groups = dig_number(summary, "test_groups")
    if groups is not None:
        yield "Groups", f"{groups:,.0f} among the test {samples}; intervals resample whole groups"
    if dig(summary, "judged") == "development":
        yield (
            "Judged on",
            (
                f"development {samples}, which are training {samples} that the split leaves; "
                f"wherever this report says test {samples}, it means them; the test part was not "
                "read"
            ),
        )
    yield "Network", str(dig(summary, "model", "name") or "")
    yield "Layer explained", str(dig(summary, "model", "layer") or "")
    guided = dig_number(summary, "model", "guided")
    if guided is not None:
        yield "Guided activations", f"{guided:.0f} (where Guided Backpropagation takes effect)"
    yield "Supervised training", chosen_epoch(summary, "supervised")
    yield "Consistency fine-tuning", chosen_epoch(summary, "consistency")
    yield "Control, uniform mask", chosen_epoch(summary, "uniform")
    yield "Seed", str(dig(summary, "seed") if dig(summary, "seed") is not None else "")
    yield "Time", duration(dig_number(summary, "seconds", "total"))


def _counts(summary: Record) -> str:
    words = {
        "train": "for training",
        "unlabelled": "more without labels for consistency",
        "validation": "for validation",
        "test": "for the test",
        "skipped": "skipped",
    }
    counts = {part: dig_number(summary, "counts", part) for part in words}
    return ", ".join(
        f"{count:,.0f} {words[part]}"
        for part, count in counts.items()
        if count is not None and (count or part not in ("unlabelled", "skipped"))
    )


def _images_per_class(split: Record) -> str:
    drawn = dig_number(split, "per_class")
    train = dig_list(split, "train")
    counts = Counter(str(label) for item in train for label in dig_list(item, "labels"))
    if not counts:
        return "" if drawn is None else f"{drawn:.0f} for training"
    low, high = min(counts.values()), max(counts.values())
    if low == high:
        return f"{low} for training"
    if drawn is None:
        return f"{low} to {high} for training"
    return f"{drawn:.0f} drawn for each; {low} to {high} in the end, as some show several classes"


def chosen_epoch(summary: Record, stage: str) -> str:
    """Say which epoch of a stage was kept, and why."""
    record = dig(summary, "stages", stage)
    epoch, epochs = dig_number(record, "epoch"), dig_number(record, "epochs")
    if epoch is None or epochs is None:
        return ""
    chooser = dig(record, "selected_by")
    metric = "f1" if chooser == "f1" else "map"
    best = dig_number(record, "validation", metric)
    start = dig_number(record, "start", metric)
    begin = f" (start {decimal(start)})" if start is not None else ""
    if chooser == "last":
        why = (
            ""
            if dig_number(summary, "counts", "validation")
            else ", as there were no labels to choose by"
        )
        return f"{epochs:.0f} epochs; the last one kept{why}"
    if chooser not in (None, "map", "f1"):
        kept = "the start" if epoch == 0 else f"epoch {epoch:.0f}"
        return f"{epochs:.0f} epochs; {kept} kept by the stopping rule {chooser}, without labels"
    if epoch == 0:
        return f"{epochs:.0f} epochs; the start was kept, none was better on validation{begin}"
    reached = f", {decimal(best)}{begin}" if best is not None else ""
    name = "F1" if metric == "f1" else "mAP"
    return f"{epochs:.0f} epochs; epoch {epoch:.0f} kept: best validation {name}{reached}"


def machine(environment: Record) -> list[tuple[str, str]]:
    """Return what the run ran on, with nested tables written out."""
    known = {key: value for key, value in environment.items() if value is not None}
    known.pop("format", None)
    return [(str(key), _flat(value)) for key, value in known.items()]


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items() if entry)
    return str(value)


def skipped(split: Record) -> list[tuple[str, str]]:
    """Return the images that were left out, with the reason of each."""
    return [
        (str(dig(image, "name")), str(dig(image, "reason") or "no reason recorded"))
        for image in dig_list(split, "skipped")
    ]
