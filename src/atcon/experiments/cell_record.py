"""The small record of a finished run: what tables over many runs need, and nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atcon import records
from atcon.errors import InputError
from atcon.evaluation import on_resamples, point, resample_weights
from atcon.experiments.compare_metrics import METRICS, f1_by_class
from atcon.experiments.compare_records import Answers, read_answers, read_folders
from atcon.experiments.folder import RunFolder
from atcon.experiments.monitoring import monitored_record
from atcon.experiments.resampling import resampled_record

RESAMPLED = ("map", "f1", "f1_tuned", "iou")
"""The metrics whose values on the resamples are recorded."""
RESAMPLES = 200
_SEED = 2012
_PER_UNIT = 10_000
"""Values on resamples are whole hundredths of a percent."""
_PER_ONE = 1_000_000
"""Consistencies of images are whole millionths."""
_START = "supervised"
SCATTERED = (_START, "consistency", "uniform")
"""The stages whose consistency is recorded for every image (supplement, figure 1)."""


def cell_record(folder: RunFolder) -> dict[str, Any]:
    """Put a finished run together: metrics of every stage, also on resamples that all runs share.

    `lowest_quartile` is the mean consistency of the images whose maps agreed least under the
    supervised network; `agreement` is that of every image, in one order for all stages, and
    `groups` numbers the group of each. Where the signals of the stopping rules were recorded,
    `rounds` has them; where the losses of table 4 were watched, `monitored`; of a gallery only
    numbers, no pixels.

    Raises:
        InputError: The folder is no finished run, or an older version's, which recorded less.
    """
    summary = records.read_json(folder.summary)
    try:
        return _put_together(folder, summary)
    except KeyError as error:
        raise InputError(
            f"{folder.summary} has no {error}: it was written by an older atcon "
            f"({summary.get('atcon')}), so move the folder away and compute the run anew"
        ) from error


def _put_together(folder: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    (run,) = read_folders([folder.root])
    environment = records.read_json(folder.root / "environment.json")
    places = tuple(dict.fromkeys(column for one in METRICS.values() for column in one.places))
    names = tuple(sorted(read_answers(run, _START, ()).names))
    answers = {stage: read_answers(run, stage, places).in_order_of(names) for stage in run.stages}
    groups = run.groups_of(names)
    weights = common_resamples(len(names), groups)
    least = _least(answers[_START])
    stages: dict[str, Any] = {}
    for stage, own in answers.items():
        ours = summary["stages"][stage]
        entry = {key: ours[key] for key in ("epoch", "kept", "selected_by", "seconds", "steps")}
        entry["validation"] = ours["validation"]
        if ours.get("reused_from"):
            entry["reused_from"] = ours["reused_from"]
        twin = next((other for other in stages if own.equals(answers[other])), None)
        entry |= {"same_as": twin} if twin else _measures(own, weights, least)
        if not twin:
            entry["per_class"] = {name: one["f1"] for name, one in ours["per_class"].items()}
            entry["per_class_resampled"] = _by_class(run.classes, own, weights)
        if stage in SCATTERED and not twin:
            entry["agreement"] = _agreement(own)
        stages[stage] = entry
    return {
        "seed": run.seed,
        "per_class": run.per_class,
        "judged": summary["judged"],
        "unit": run.unit,
        "counts": summary["counts"],
        **resampled_record(groups),
        **({} if groups is None else {"groups": _numbered(groups)}),
        "test_images": hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest(),
        "titles": {name: arm["title"] for name, arm in summary["arms"].items()},
        "seconds": summary["seconds"],
        "environment": environment,
        "stages": stages,
        **_rounds(folder, summary),
        **_gallery(folder),
        **monitored_record(records.read_lines(folder.metrics)),
    }


def common_resamples(images: int, groups: Sequence[Any] | None) -> np.ndarray:
    """Give the resamples that all cells share, as weights of the test images."""
    return resample_weights(images, RESAMPLES, seed=_SEED, groups=groups)


def _measures(answers: Answers, weights: np.ndarray, least: np.ndarray) -> dict[str, Any]:
    """Metrics on the test images, and on the resamples as text: a list would take a line each."""
    metrics = {name: measure.of(answers) for name, measure in METRICS.items()}
    agreement = answers.places["correlation"][least]
    return {
        "test": {
            name: _number(float(point(metric, weights.shape[1])), METRICS[name].scale)
            for name, metric in metrics.items()
        },
        "lowest_quartile": _number(float(np.nanmean(agreement)) if len(agreement) else np.nan, 1.0),
        "resampled": {
            name: " ".join(map(_whole, on_resamples(metrics[name], weights))) for name in RESAMPLED
        },
    }


def _by_class(classes: Sequence[str], answers: Answers, weights: np.ndarray) -> dict[str, str]:
    """F1 of every class on the resamples."""
    columns = on_resamples(f1_by_class(answers), weights).T
    return {
        name: " ".join(map(_whole, column)) for name, column in zip(classes, columns, strict=True)
    }


def _agreement(answers: Answers) -> str:
    """Consistency of each image in its order, as one text."""
    values = answers.places["correlation"]
    return " ".join("-" if np.isnan(one) else str(round(_PER_ONE * float(one))) for one in values)


def _numbered(groups: Sequence[str]) -> str:
    """Give each image the number of its group, from the first on: names are not for records."""
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return " ".join(str(number[group]) for group in groups)


def agreement_of(text: str) -> np.ndarray:
    """Read what `agreement` holds; NaN where the consistency of an image was not measured."""
    return np.array([np.nan if one == "-" else int(one) / _PER_ONE for one in text.split()])


def _least(start: Answers) -> np.ndarray:
    """Which images are in the lowest quartile of consistency at the start, of those measured."""
    values = start.places["correlation"]
    known = np.flatnonzero(~np.isnan(values))
    return known[np.argsort(values[known], kind="stable")[: len(known) // 4]]


def _number(value: float, scale: float) -> float | None:
    return None if np.isnan(value) else round(scale * float(value), 5)


def _whole(value: float) -> str:
    return "-" if np.isnan(value) else str(round(_PER_UNIT * float(value)))


def values_on_resamples(text: str) -> np.ndarray:
    """Read what `resampled` holds; NaN where the metric was not defined."""
    return np.array([np.nan if one == "-" else int(one) / _PER_UNIT for one in text.split()])


def _gallery(folder: RunFolder) -> dict[str, Any]:
    """Say how many images the gallery has, and for how many of them each stage is right."""
    index = folder.root / "gallery" / "index.json"
    entries = records.read_json(index)["entries"] if index.exists() else []
    if not entries:
        return {}
    right = {
        stage: sum(entry["stages"][stage]["correct"] for entry in entries)
        for stage in entries[0]["stages"]
    }
    return {"gallery": {"images": len(entries), "correct": right}}


def _rounds(folder: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured in every round of the fine-tuning, the start first, if it was followed."""
    start = summary["stages"]["consistency"]["start"]
    if "held_out" not in start:
        return {}
    lines = [line for line in records.read_lines(folder.metrics) if line["stage"] == "consistency"]
    seen = [start, *(line["validation"] for line in lines)]
    return {
        "rounds": [
            {
                "signals": {
                    key: round(value, 9)
                    for key, value in one.items()
                    if key not in ("map", "f1", "held_out")
                },
                "validation": one["map"],
                "held_out": one["held_out"],
            }
            for one in seen
        ]
    }
