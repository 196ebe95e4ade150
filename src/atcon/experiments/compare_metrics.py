"""The metrics of a comparison: from the tables of a run to functions of sample weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atcon.evaluation import (
    ClassMetric,
    Metric,
    f1,
    f1_per_class,
    max_box_accuracy,
    mean_average_precision,
    predict,
    weighted_mean,
)
from atcon.experiments.compare_records import Answers


@dataclass(frozen=True)
class Measure:
    """A metric of the table.

    Attributes:
        title: As it is shown.
        of: From a stage's answers to a function of sample weights.
        places: The columns of `localisation/STAGE.csv` that it reads.
        scale: 100 where it is shown in percent.
        digits: After the point, in the record.
    """

    title: str
    of: Callable[[Answers], Metric]
    places: tuple[str, ...] = ()
    scale: float = 100.0
    digits: int = 3


def f1_by_class(answers: Answers) -> ClassMetric:
    """F1 of every class, whose mean is the metric `f1`."""
    return f1_per_class(answers.labels, _predicted(answers))


def _predicted(answers: Answers) -> np.ndarray:
    return predict(answers.probabilities, multi_label=answers.multi_label)


def _f1(answers: Answers) -> Metric:
    return f1(answers.labels, _predicted(answers))


def _f1_tuned(answers: Answers) -> Metric:
    tuned = predict(
        answers.probabilities, multi_label=answers.multi_label, thresholds=answers.thresholds
    )
    return f1(answers.labels, tuned)


def _map_weighted(answers: Answers) -> Metric:
    return mean_average_precision(answers.labels, answers.probabilities, "weighted")


def _mean_of(column: str) -> Callable[[Answers], Metric]:
    def metric(answers: Answers) -> Metric:
        values = answers.places[column]
        return weighted_mean(values, ~np.isnan(values))

    return metric


def _max_box_accuracy(answers: Answers) -> Metric:
    values = answers.places["box_ious"]
    return max_box_accuracy(values, ~np.isnan(values[:, 0]))


METRICS = {
    "map": Measure("mAP", lambda a: mean_average_precision(a.labels, a.probabilities)),
    "f1": Measure("F1", _f1),
    "f1_tuned": Measure("F1, thresholds of the validation set", _f1_tuned),
    "map_weighted": Measure("mAP, weighted by support", _map_weighted),
    "iou": Measure("IoU", _mean_of("iou"), ("iou",)),
    "iou_reference": Measure("IoU, the code's rule", _mean_of("iou_reference"), ("iou_reference",)),
    "epg": Measure("energy inside the boxes", _mean_of("epg"), ("epg",)),
    "pointing": Measure("peak inside the boxes", _mean_of("pointing"), ("pointing",)),
    "max_box_acc": Measure("MaxBoxAccV2", _max_box_accuracy, ("box_ious",)),
    "consistency": Measure(
        "consistency of the maps", _mean_of("correlation"), ("correlation",), 1.0, 5
    ),
    "mask_contrast": Measure(
        "standard deviation of the mask", _mean_of("mask_contrast"), ("mask_contrast",), 1.0, 5
    ),
}
"""What can be compared."""
DEFAULT = ("map", "f1", "f1_tuned", "iou")
