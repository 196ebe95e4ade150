"""The rows of a comparison: which stages of which runs, each once, and which is the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atcon.errors import InputError, no_such
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.compare_records import Answers, read_answers
from atcon.experiments.compare_splits import Method, check_images

SUPERVISED = "supervised"


@dataclass
class Row:
    """One stage of one method: its answers by seed, and who gave the same ones."""

    method: Method
    stage: str
    answers: tuple[Answers, ...]
    same: list[tuple[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As `--against` takes it."""
        return f"{self.method.label}:{self.stage}"


def rows_of(
    methods: list[Method], stages: Sequence[str], against: str | None, metrics: Sequence[str]
) -> tuple[Row, list[Row], list[str]]:
    """The reference, all rows with it, and what a reader should know of them."""
    known = list(dict.fromkeys(stage for method in methods for stage in _stages_of(method)))
    for stage in stages:
        if stage not in known:
            raise no_such("stage", stage, known)
    chosen = _chosen(methods, against)
    wanted = [
        (method, stage)
        for method in methods
        for stage in _ordered(_stages_of(method))
        if not stages or stage in stages or (method, stage) == chosen
    ]
    if len(wanted) < 2:
        raise InputError(
            f"nothing to compare with {chosen[0].label}:{chosen[1]}: give another run, or more of "
            f"its stages ({', '.join(known)})"
        )
    places = [column for name in metrics for column in METRICS[name].places]
    read: list[Row] = []
    for method, stage in wanted:
        names = read[0].answers[0].names if read else None
        read.append(Row(method, stage, _answers(method, stage, places, methods[0], names)))
    reference = next(row for row in read if (row.method, row.stage) == chosen)
    kept = _shown_once(read, reference)
    return reference, kept, _notes(methods, kept)


def _stages_of(method: Method) -> tuple[str, ...]:
    """The stages of a method; all of its seeds have them."""
    first = method.runs[0]
    for run in method.runs[1:]:
        if set(run.stages) != set(first.stages):
            odd = sorted(set(run.stages) ^ set(first.stages))
            raise InputError(
                f"{first.root} and {run.root} have one configuration, but not the same stages: "
                f"{', '.join(odd)} in one of them only"
            )
    return first.stages


def _ordered(stages: Sequence[str]) -> list[str]:
    return sorted(stages, key=lambda stage: stage != SUPERVISED)


def _chosen(methods: list[Method], against: str | None) -> tuple[Method, str]:
    """The method and the stage of the reference."""
    if against is None:
        return methods[0], _ordered(_stages_of(methods[0]))[0]
    for method in methods:
        if against in _stages_of(method):
            return method, against
    given, _, stage = against.rpartition(":")
    for method in methods:
        if stage in _stages_of(method) and _is_meant(method, given):
            return method, stage
    names = [f"{method.label}:{stage}" for method in methods for stage in _stages_of(method)]
    raise no_such("row", against, names)


def _is_meant(method: Method, given: str) -> bool:
    places = {run.root.resolve() for run in method.runs}
    if len(places) > 1:
        places |= {place.parent for place in places}
    return bool(given) and (given == method.label or Path(given).resolve() in places)


def _answers(
    method: Method,
    stage: str,
    places: Sequence[str],
    first: Method,
    names: tuple[str, ...] | None,
) -> tuple[Answers, ...]:
    """What a stage says in every seed, about the same test images in the same order."""
    found: list[Answers] = []
    for run in method.runs:
        answers = read_answers(run, stage, places)
        names = names or answers.names
        check_images(first.runs[0], run, "test", (names, answers.names))
        found.append(answers.in_order_of(names))
    return tuple(found)


def _shown_once(rows: list[Row], reference: Row) -> list[Row]:
    """Rows that give the same answers in every seed become one; the reference stays."""
    kept: list[Row] = []
    for row in [reference, *(row for row in rows if row is not reference)]:
        twin = next((one for one in kept if _agree(one, row)), None)
        if twin is None:
            kept.append(row)
        else:
            twin.same.append((row.method.label, row.stage))
    return sorted(kept, key=rows.index)


def _agree(one: Row, other: Row) -> bool:
    return all(a.equals(b) for a, b in zip(one.answers, other.answers, strict=True))


def _notes(methods: list[Method], rows: list[Row]) -> list[str]:
    notes = [
        f"the same predictions as {row.name}, shown once: "
        + ", ".join(f"{run}:{stage}" for run, stage in row.same)
        for row in rows
        if row.same
    ]
    runs = [run for method in methods for run in method.runs]
    if len({(run.level, run.resamples) for run in runs}) > 1:
        notes.append(
            f"evaluation.level and evaluation.resamples differ between the runs; those of "
            f"{methods[0].label} are used: {runs[0].level}, {runs[0].resamples}"
        )
    grouped = {tuple(run.groups_of(rows[0].answers[0].names) or ()) for run in runs}
    if len(grouped) > 1:
        notes.append(
            f"data.group differs between the runs; the groups of {methods[0].label} are resampled"
        )
    return notes
