"""Metrics as functions of sample weights, their intervals, tests and trivial floors. No torch."""

from atcon.evaluation.bca import bca, jackknife, paired_bca
from atcon.evaluation.bootstrap import (
    Gain,
    Interval,
    bootstrap,
    bootstrap_per_class,
    on_resamples,
    paired_bootstrap,
    resample_weights,
)
from atcon.evaluation.box_accuracy import (
    BOX_THRESHOLDS,
    MAP_THRESHOLDS,
    box_iou,
    box_ious,
    max_box_accuracy,
)
from atcon.evaluation.classification import (
    average_precision,
    f1,
    f1_per_class,
    fit_thresholds,
    mean_average_precision,
    predict,
)
from atcon.evaluation.hierarchical import hierarchical_bca, hierarchical_bootstrap
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
    pointing,
    rescale,
    resize,
    whole_image,
)
from atcon.evaluation.metric import ClassMetric, Metric, point, weighted_mean
from atcon.evaluation.permutation import (
    Difference,
    Swaps,
    permutation_over_seeds,
    permutation_test,
    swaps,
)
from atcon.evaluation.power import Components, components, needed_seeds, needed_units, power
from atcon.evaluation.reference import reference_test
from atcon.evaluation.series import (
    changes,
    correlation_in_a_run,
    correlation_of_series,
    correlation_over_runs,
)
from atcon.evaluation.significance import holm, paired_over_seeds
from atcon.evaluation.slope import (
    gain_against_middle,
    gain_against_start,
    regression_to_the_mean,
)

__all__ = [
    "BOX_THRESHOLDS",
    "IOU_RULES",
    "MAP_THRESHOLDS",
    "TRIVIAL_MAPS",
    "ClassMetric",
    "Components",
    "Difference",
    "Gain",
    "Interval",
    "Localisation",
    "Metric",
    "Swaps",
    "average_precision",
    "bca",
    "bootstrap",
    "bootstrap_per_class",
    "box_iou",
    "box_ious",
    "box_mask",
    "centre_box",
    "changes",
    "components",
    "correlation_in_a_run",
    "correlation_of_series",
    "correlation_over_runs",
    "energy_inside",
    "f1",
    "f1_per_class",
    "fit_thresholds",
    "floors",
    "gain_against_middle",
    "gain_against_start",
    "hierarchical_bca",
    "hierarchical_bootstrap",
    "holm",
    "iou",
    "jackknife",
    "localise",
    "max_box_accuracy",
    "mean_average_precision",
    "needed_seeds",
    "needed_units",
    "on_resamples",
    "paired_bca",
    "paired_bootstrap",
    "paired_over_seeds",
    "permutation_over_seeds",
    "permutation_test",
    "point",
    "pointing",
    "power",
    "predict",
    "reference_test",
    "regression_to_the_mean",
    "resample_weights",
    "rescale",
    "resize",
    "swaps",
    "weighted_mean",
    "whole_image",
]
