"""From what the networks said to numbers: metrics with intervals, gains, controls, the verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from atcon.evaluation import (
    MAP_THRESHOLDS,
    Gain,
    Interval,
    Localisation,
    Metric,
    average_precision,
    bootstrap,
    bootstrap_per_class,
    f1,
    f1_per_class,
    holm,
    max_box_accuracy,
    mean_average_precision,
    paired_bootstrap,
    point,
    predict,
    weighted_mean,
)
from atcon.experiments.judge import Judged, Verdicts

HEADLINE = ("f1", "map", "iou")
PERCENT = 100.0
UNSCALED = frozenset({"consistency", "mask_contrast"})
CLEAR = 0.05


class Scores:
    """The metrics of one stage on the test images, each a function of sample weights."""

    def __init__(
        self, judged: Judged, labels: np.ndarray, thresholds: np.ndarray, *, multi_label: bool
    ) -> None:
        tuned = predict(judged.probabilities, multi_label=multi_label, thresholds=thresholds)
        plain = predict(judged.probabilities, multi_label=multi_label)
        self.labels, self.probabilities, self.plain = labels, judged.probabilities, plain
        self.placed = np.array([place is not None for place in judged.places])
        self.overlaps = {key: _values(judged, key) for key in ("iou", "iou_reference")}
        self.metrics: dict[str, Metric] = {
            "f1": f1(labels, plain),
            "f1_tuned": f1(labels, tuned),
            "map": mean_average_precision(labels, judged.probabilities),
            "map_weighted": mean_average_precision(labels, judged.probabilities, "weighted"),
            "iou": weighted_mean(self.overlaps["iou"], self.placed),
            "iou_reference": weighted_mean(self.overlaps["iou_reference"], self.placed),
            "epg": weighted_mean(_values(judged, "epg"), self.placed),
            "pointing": weighted_mean(_values(judged, "pointing"), self.placed),
            "max_box_acc": max_box_accuracy(_box_ious(judged.places), self.placed),
            "consistency": weighted_mean(judged.correlation, ~np.isnan(judged.correlation)),
            "mask_contrast": weighted_mean(judged.contrast, ~np.isnan(judged.contrast)),
        }

    def per_class(
        self, classes: Sequence[str], weights: np.ndarray, level: float
    ) -> dict[str, dict[str, Any]]:
        """F1 and average precision of every class with their intervals, and its test images."""
        found = {
            "f1": bootstrap_per_class(f1_per_class(self.labels, self.plain), weights, level=level),
            "ap": bootstrap_per_class(
                average_precision(self.labels, self.probabilities), weights, level=level
            ),
        }
        return {
            name: {
                **{key: _value(key, column[index]) for key, column in found.items()},
                "count": int(self.labels[:, index].sum()),
                "intervals": {key: _interval(key, column[index]) for key, column in found.items()},
            }
            for index, name in enumerate(classes)
        }


def _values(judged: Judged, key: str) -> np.ndarray:
    return np.array([0.0 if place is None else getattr(place, key) for place in judged.places])


def _box_ious(places: Sequence[Localisation | None]) -> np.ndarray:
    nothing = (0.0,) * len(MAP_THRESHOLDS)
    return np.array([nothing if place is None else place.box_ious for place in places])


def scores_of(
    verdicts: Verdicts, thresholds: Mapping[str, np.ndarray], *, multi_label: bool
) -> dict[str, Scores]:
    """The metrics of every stage, with the thresholds fitted for it."""
    return {
        stage: Scores(judged, verdicts.labels, thresholds[stage], multi_label=multi_label)
        for stage, judged in verdicts.stages.items()
    }


def test_record(
    scores: Scores, weights: np.ndarray, level: float, classes: Sequence[str]
) -> dict[str, Any]:
    """The `test`, `intervals` and `per_class` of one stage."""
    found = {
        name: bootstrap(metric, weights, level=level) for name, metric in scores.metrics.items()
    }
    return {
        "test": {name: _value(name, interval) for name, interval in found.items()},
        "intervals": {name: _interval(name, interval) for name, interval in found.items()},
        "per_class": scores.per_class(classes, weights, level),
    }


def gain_record(after: Scores, before: Scores, weights: np.ndarray, level: float) -> dict[str, Any]:
    """`after - before` for every metric, paired over the test images."""
    names = [name for name in after.metrics if name != "mask_contrast"]
    gains = {
        name: paired_bootstrap(after.metrics[name], before.metrics[name], weights, level=level)
        for name in names
    }
    common = after.placed & before.placed
    for key in ("iou", "iou_reference"):
        gains[f"{key}_common"] = paired_bootstrap(
            weighted_mean(after.overlaps[key], common),
            weighted_mean(before.overlaps[key], common),
            weights,
            level=level,
        )
    return {name: _gain(name, gain) for name, gain in gains.items()}


def arm_record(
    arm: Scores, ours: Scores, start: Scores, weights: np.ndarray, level: float
) -> dict[str, Any]:
    """The gain of an alternative over the supervised stage, and ours minus its."""
    return {
        "gain": _headline(arm, start, weights, level, (*HEADLINE, "f1_tuned")),
        "difference": _headline(ours, arm, weights, level, (*HEADLINE, "f1_tuned")),
    }


def control_record(
    ours: Scores,
    start: Scores,
    control: Scores | None,
    weights: np.ndarray,
    level: float,
    *,
    calibrated: bool = True,
) -> dict[str, Any]:
    """Both controls: their own gain over the start, and ours minus theirs.

    Without validation images nothing is calibrated (`calibrated=False`).
    """
    tuned, plain = start.metrics["f1_tuned"], start.metrics["f1"]
    calibration = {
        "gain": {"f1": _gain("f1", paired_bootstrap(tuned, plain, weights, level=level))},
        "difference": {
            "f1": _gain("f1", paired_bootstrap(ours.metrics["f1"], tuned, weights, level=level))
        },
    }
    found: dict[str, Any] = {}
    if control is not None:
        found["uniform"] = {
            "gain": _headline(control, start, weights, level),
            "difference": _headline(ours, control, weights, level),
        }
    if calibrated:
        found["calibration"] = calibration
    return found


def floor_record(judged: Judged) -> dict[str, dict[str, float | None]]:
    """What maps that never look at the image earn on the true positives of a stage."""
    known = [entry for entry in judged.trivial if entry is not None]
    names = known[0] if known else ()
    return {name: _floor([entry[name] for entry in known]) for name in names}


def _floor(places: list[Localisation]) -> dict[str, float | None]:
    found = {
        key: float(np.mean([getattr(place, key) for place in places]))
        for key in ("iou", "epg", "pointing")
    }
    every = np.ones(len(places), dtype=bool)
    found["max_box_acc"] = float(point(max_box_accuracy(_box_ious(places), every), len(places)))
    return {key: _scaled(key, value) for key, value in found.items()}


def verdict_record(
    kept: bool,
    epochs: int,
    gain: Mapping[str, Any],
    controls: Mapping[str, Any],
    *,
    chooser: str = "map",
    over: str = "images",
    unit: str = "images",
) -> dict[str, Any]:
    """Say in one sentence whether consistency helped, from Holm-corrected tests.

    It helps where F1, mAP or IoU rises clearly, none falls clearly, and the rise is clearly above
    that of every control that was run. `chooser` is the validation metric or the stopping rule that
    kept the epoch; `over` says what the intervals resample, "images" or "groups", and `unit` what
    the samples are.
    """
    if not kept:
        why = (
            "no epoch of fine-tuning was as good on validation as its start"
            if chooser in ("map", "f1")
            else f"the stopping rule {chooser} preferred the start to every epoch of fine-tuning"
        )
        return {
            "outcome": "not_kept",
            "sentence": f"Not kept: {why}, so the supervised model stays.",
            "reasons": [f"{epochs} epochs were tried; test results are those of the start."],
        }
    changes = {name: gain[name] for name in HEADLINE if gain.get(name) is not None}
    adjusted = holm([change["p"] for change in changes.values()])
    clear = {
        name: change["value"]
        for (name, change), p in zip(changes.items(), adjusted, strict=True)
        if p < CLEAR
    }
    up = [name for name, value in clear.items() if value > 0]
    down = [name for name, value in clear.items() if value < 0]
    beaten = [name for name in up if _beats_controls(name, controls)]
    outcome = _outcome(up, down, beaten)
    listed = ", ".join(_say(name, change) for name, change in changes.items())
    return {
        "outcome": outcome,
        "sentence": f"{_SENTENCES[outcome].format(unit)} {listed}.",
        "reasons": _reasons(up, down, beaten, controls, f"test {unit}", over),
    }


_SENTENCES = {
    "helps": "Consistency fine-tuning helped on these test {}, beyond both controls:",
    "control_explains": "The model improved, but a control explains it as well as consistency:",
    "no_difference": "No clear difference on these test {}:",
    "harms": "Consistency fine-tuning did harm on these test {}:",
    "mixed": "Mixed result, something rose and something fell:",
}
_NAMES = {"f1": "F1", "map": "mAP", "iou": "IoU"}


def _outcome(up: list[str], down: list[str], beaten: list[str]) -> str:
    if up and down:
        return "mixed"
    if down:
        return "harms"
    if not up:
        return "no_difference"
    return "helps" if beaten else "control_explains"


def _reasons(
    up: list[str],
    down: list[str],
    beaten: list[str],
    controls: Mapping[str, Any],
    judged: str,
    over: str,
) -> list[str]:
    reasons = [
        f"{_NAMES[name]} {way} clearly (Holm-corrected p < {CLEAR})"
        for names, way in ((up, "rose"), (down, "fell"))
        for name in names
    ]
    unbeaten = [_NAMES[name] for name in up if name not in beaten]
    if unbeaten:
        reasons.append(f"{', '.join(unbeaten)}: not clearly above every control")
    if "uniform" not in controls:
        reasons.append("the control with a uniform mask was not run")
    covered = f"groups of {judged}" if over == "groups" else judged
    reasons.append(f"one training run on one split; {covered} are what the intervals cover")
    return reasons


def _beats_controls(name: str, controls: Mapping[str, Any]) -> bool:
    """Whether ours is clearly above every control that speaks about this metric; needs uniform."""
    if "uniform" not in controls:
        return False
    differences = [control["difference"].get(name) for control in controls.values()]
    return all(d["value"] > 0 and d["p"] < CLEAR for d in differences if d is not None)


def _say(name: str, change: Mapping[str, float]) -> str:
    interval = f"{change['low']:+.1f} to {change['high']:+.1f}"
    text = f"{_NAMES[name]} {change['value']:+.1f} points ({interval})"
    return text.replace("-", "\N{MINUS SIGN}")


def _headline(
    after: Scores,
    before: Scores,
    weights: np.ndarray,
    level: float,
    names: Sequence[str] = HEADLINE,
) -> dict[str, Any]:
    return {
        name: _gain(
            name,
            paired_bootstrap(after.metrics[name], before.metrics[name], weights, level=level),
        )
        for name in names
    }


def _gain(name: str, gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    scaled = {key: _scaled(name, value) for key, value in asdict(gain).items() if key != "p"}
    return {**scaled, "p": round(gain.p, 5)}


def _value(name: str, interval: Interval | None) -> float | None:
    return None if interval is None else _scaled(name, interval.value)


def _interval(name: str, interval: Interval | None) -> list[float | None] | None:
    if interval is None:
        return None
    return [_scaled(name, interval.low), _scaled(name, interval.high)]


def _scaled(name: str, value: float) -> float | None:
    if math.isnan(value):
        return None
    if name in UNSCALED:
        return round(value, 5)
    return round(PERCENT * value, 3)
