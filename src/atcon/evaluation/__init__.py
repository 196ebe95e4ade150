"""Metrics as functions of sample weights, their intervals, tests and trivial floors. No torch."""

from atcon.evaluation.bootstrap import (
    Gain,
    Interval,
    bootstrap,
    bootstrap_per_class,
    on_resamples,
    paired_bootstrap,
    resample_weights,
)
from atcon.evaluation.classification import (
    average_precision,
    f1,
    f1_per_class,
    fit_thresholds,
    mean_average_precision,
    predict,
)
from atcon.evaluation.hierarchical import hierarchical_bootstrap
from atcon.evaluation.localisation import (
    IOU_RULES,
    TRIVIAL_MAPS,
    Localisation,
    box_mask,
    centre_box,
    energy_inside,
    floors,
    iou,
    localise,
    rescale,
    resize,
    whole_image,
)
from atcon.evaluation.metric import ClassMetric, Metric, point, weighted_mean
from atcon.evaluation.significance import holm, paired_over_seeds

__all__ = [
    "IOU_RULES",
    "TRIVIAL_MAPS",
    "ClassMetric",
    "Gain",
    "Interval",
    "Localisation",
    "Metric",
    "average_precision",
    "bootstrap",
    "bootstrap_per_class",
    "box_mask",
    "centre_box",
    "energy_inside",
    "f1",
    "f1_per_class",
    "fit_thresholds",
    "floors",
    "hierarchical_bootstrap",
    "holm",
    "iou",
    "localise",
    "mean_average_precision",
    "on_resamples",
    "paired_bootstrap",
    "paired_over_seeds",
    "point",
    "predict",
    "resample_weights",
    "rescale",
    "resize",
    "weighted_mean",
    "whole_image",
]
