"""Watch new data: do the maps of a finished network still agree as they did on its own images?"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atcon import records
from atcon.data.incoming import Incoming
from atcon.evaluation import shift
from atcon.experiments.finished import FinishedRun, reopen
from atcon.experiments.progress import Progress
from atcon.experiments.resampling import named_groups, weights_for
from atcon.experiments.watch_data import new_data, own_data, own_hashes, own_parts
from atcon.experiments.watch_scores import Scores, scores_of, watcher_of
from atcon.experiments.watch_verdict import errors_record, shift_record, verdict_record
from atcon.plain_text import printable
from atcon.types import Example

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLUMNS = ("name", "group", "consistency", "predicted", "probability", "labels", "correct")
"""Of `samples.csv`."""


@dataclass(frozen=True)
class Naming:
    """What samples, groups, paths and reasons are called in what is written."""

    sample: Callable[[str], str] = printable
    group: Callable[[str], str] = printable
    path: Callable[[str], str] = printable
    reason: Callable[[str], str] = printable


@dataclass(frozen=True)
class Watched:
    """The record of new data, and one row of `COLUMNS` for every sample."""

    record: dict[str, Any]
    rows: list[dict[str, Any]]


def watch(  # noqa: PLR0913 - the options of its command
    run: Path,
    data: Path,
    *,
    stage: str | None = None,
    csv: str | None = None,
    group: str | None = None,
    part: str = "all",
    least: int = 10,
    overrides: Iterable[str] = (),
    naming: Naming | None = None,
    progress: Progress | None = None,
) -> Watched:
    """Measure the consistency of new samples, and compare it with that of the run's own.

    The score is the run's consistency of the top class. It is measured anew on the training and
    the validation images, too (without those, on test images); these are the reference, since a
    network can agree far more on what it was trained on.

    Args:
        run: The run folder; nothing in it is changed.
        data: A folder, a CSV, or a configuration whose data are meant (`new_data`).
        stage: Whose network; None: that after consistency, else the supervised one.
        csv: A table for the folder.
        group: Where the groups of the new samples come from.
        part: Of a configuration's data.
        least: How many of the samples that agree least are listed.
        overrides: `key=value`, of the keys that do not change what was trained.
        naming: What things are called in the record; by default by their names.
        progress: Told about every batch.

    Raises:
        InputError: The run, the data or an option is wrong, or the run's own images are missing.
        BadImageError: A sample cannot be read and the policy of the run is "error".
    """
    opened, progress, naming = reopen(run, overrides), progress or Progress(), naming or Naming()
    stage = stage or _last_stage(opened)
    watcher = watcher_of(opened, stage)
    incoming = new_data(opened, data, csv=csv, group=group, part=part, progress=progress)
    image_set, split = own_data(opened, progress)
    policy = opened.config.data.on_bad_image
    own = {
        name: scores_of(watcher, image_set, examples, title=name, policy=policy, progress=progress)
        for name, examples in own_parts(split).items()
    }
    fresh = incoming.image_set
    new = scores_of(watcher, fresh, fresh.pool, title="new", policy=policy, progress=progress)
    return _watched(opened, stage, naming.path(str(data)), incoming, own, new, least, naming)


def _last_stage(opened: FinishedRun) -> str:
    return "consistency" if "consistency" in opened.record["stages"] else "supervised"


def _watched(
    opened: FinishedRun,
    stage: str,
    data: str,
    incoming: Incoming,
    own: Mapping[str, Scores],
    new: Scores,
    least: int,
    naming: Naming,
) -> Watched:
    """Put the record together."""
    record, level = opened.record, opened.config.evaluation.level
    unit = record.get("unit", "images")
    rows = _rows(new, incoming, record["classes"], naming)
    found = {name: _compared(opened, scores, new) for name, scores in own.items()}
    grouped = any(_groups(scores.examples) for scores in (new, *own.values()))
    main = next(iter(found))
    skipped = (*incoming.image_set.skipped, *new.skipped)
    return Watched(
        {
            "run": naming.path(str(opened.folder.root)),
            "stage": stage,
            "data": data,
            "unit": unit,
            "classes": record["classes"],
            "multi_label": record["multi_label"],
            "level": level,
            "resamples": opened.config.evaluation.resamples,
            "counts": {
                "new": len(new),
                "skipped": len(skipped),
                "labelled": sum(example.name in incoming.truth for example in new.examples),
                "foreign": dict(incoming.foreign),
            },
            "consistency": {name: _spread(each) for name, each in (*own.items(), ("new", new))},
            "shift": {
                name: shift_record(one, _share_below(own[name], new)) for name, one in found.items()
            },
            "verdict": verdict_record(found[main], main, unit=unit, grouped=grouped, level=level),
            "least": sorted(rows, key=lambda row: row["consistency"])[:least],
            "errors": _errors(opened, new, incoming),
            "skipped": [
                {"name": naming.sample(name), "reason": naming.reason(reason)}
                for name, reason in skipped
            ],
            "notes": _notes(opened, incoming, own, new, unit),
        },
        rows,
    )


def _compared(opened: FinishedRun, own: Scores, new: Scores) -> Any:
    settings = opened.config.evaluation
    return shift(
        own.consistency,
        new.consistency,
        groups=(_groups(own.examples), _groups(new.examples)),
        resamples=settings.resamples,
        level=settings.level,
        seed=np.random.default_rng([opened.config.seed, 6]),
    )


def _groups(examples: Sequence[Example]) -> list[str] | None:
    return named_groups((example.name, example.group) for example in examples)


def _spread(scores: Scores) -> dict[str, Any]:
    groups = _groups(scores.examples)
    values = scores.consistency
    return {
        "count": len(scores),
        "groups": None if groups is None else len(set(groups)),
        "mean": round(float(values.mean()), 5),
        "quantiles": {
            f"{100 * share:g}": round(float(value), 5)
            for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        },
    }


def _share_below(own: Scores, new: Scores) -> float:
    return float((new.consistency < np.quantile(own.consistency, QUANTILES[0])).mean())


def _rows(
    new: Scores, incoming: Incoming, classes: Sequence[str], naming: Naming
) -> list[dict[str, Any]]:
    """Give a row per sample, in the order of the names that are shown."""
    rows = []
    answers = zip(new.examples, new.consistency, new.top, new.confidence, strict=True)
    for example, consistency, top, probability in answers:
        truth = incoming.truth.get(example.name)
        rows.append(
            {
                "name": naming.sample(example.name),
                "group": None if example.group is None else naming.group(example.group),
                "consistency": round(float(consistency), 6),
                "predicted": classes[int(top)],
                "probability": round(float(probability), 6),
                "labels": None if truth is None else [classes[label] for label in sorted(truth)],
                "correct": None if truth is None else int(top) in truth,
            }
        )
    return sorted(rows, key=lambda row: str(row["name"]))


def _errors(opened: FinishedRun, new: Scores, incoming: Incoming) -> dict[str, Any] | None:
    """Say how well the consistency predicts errors, over the samples whose classes are known."""
    known = np.array([example.name in incoming.truth for example in new.examples])
    if not known.any():
        return None
    judged = [example for example in new.examples if example.name in incoming.truth]
    answers = zip(judged, new.top[known], strict=True)
    wrong = np.array([int(top) not in incoming.truth[example.name] for example, top in answers])
    groups, settings = _groups(judged), opened.config.evaluation
    alone = len(judged) < 2 or (groups is not None and len(set(groups)) < 2)
    weights = (
        None if alone else weights_for(len(judged), groups, settings.resamples, opened.config.seed)
    )
    return errors_record(
        wrong, new.consistency[known], new.confidence[known], weights, level=settings.level
    )


def _notes(
    opened: FinishedRun, incoming: Incoming, own: Mapping[str, Scores], new: Scores, unit: str
) -> list[str]:
    """Say what a reader must know to believe the numbers; names of files are not in it."""
    notes = []
    if "consistency" not in yaml.safe_load(opened.folder.config.read_text(encoding="utf-8")):
        notes.append("the run's configuration has no section consistency: the default preset is it")
    if "test" in own:
        notes.append(f"the run has no validation {unit}: its test {unit} are the reference")
    known = own_hashes(opened)
    twice = Counter(known[sha] for sha in new.hashes.values() if sha in known)
    notes += [
        f"{count} of the new {unit} are the run's own {part} {unit}, byte for byte"
        for part, count in sorted(twice.items())
    ]
    changed = sum(sha not in known for scores in own.values() for sha in scores.hashes.values())
    if changed:
        notes.append(f"{changed} of the run's own {unit} have changed since it was made")
    if incoming.foreign:
        several = ", ".join(f"{printable(name)} ({n})" for name, n in incoming.foreign.items())
        notes.append(
            f"classes that the run does not have: {several}; {unit} of these alone count for "
            "nothing where errors are counted"
        )
    if incoming.truth and opened.record["multi_label"]:
        notes.append("several classes may hold: an error is a top class that is none of them")
    return notes


def write_watched(out: Path, watched: Watched) -> None:
    """Write `monitor.json` and `samples.csv` into a new folder, both or neither.

    Raises:
        InputError: It exists.
    """
    records.check_new(out)
    with records.whole_folder(out) as folder:
        records.write_json(folder / "monitor.json", watched.record)
        records.write_csv(folder / "samples.csv", COLUMNS, map(_cells, watched.rows))


def _cells(row: Mapping[str, Any]) -> list[Any]:
    labels, correct = row["labels"], row["correct"]
    flat = {
        **row,
        "labels": "" if labels is None else ";".join(labels),
        "correct": "" if correct is None else int(correct),
    }
    return [flat[column] for column in COLUMNS]
