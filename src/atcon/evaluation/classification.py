"""F1, average precision, thresholds and predictions, as functions of sample weights.

Equal to scikit-learn with `sample_weight`, ties included, but all resamples at once.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from atcon.errors import InputError
from atcon.evaluation.metric import (
    ClassMetric,
    ClassValues,
    Labels,
    Marks,
    Metric,
    Samples,
    Scores,
    Values,
    Weights,
    checked_weights,
    divide,
)

Thresholds = Float[np.ndarray, " class"]
Indices = Int[np.ndarray, " index"]
Average = Literal["macro", "weighted"]


def f1_per_class(labels: ArrayLike, predicted: ArrayLike) -> ClassMetric:
    r"""F1 of each class, $2 TP / (2 TP + FP + FN)$; 0 with neither positives nor predictions.

    Args:
        labels: Boolean, `[sample, class]`.
        predicted: Boolean, `[sample, class]`.
    """
    truth, answer = _checked_marks(labels, "labels"), _checked_marks(predicted, "predicted")
    _check_same_shape(truth, answer)
    hits = (truth & answer).astype(float)
    marked = truth.astype(float) + answer

    def metric(weights: Weights) -> ClassValues:
        rows = checked_weights(weights, len(truth))
        return divide(2 * (rows @ hits), rows @ marked, undefined=0.0)

    return metric


def f1(labels: ArrayLike, predicted: ArrayLike) -> Metric:
    """Macro F1: the mean of `f1_per_class` over all classes."""
    per_class = f1_per_class(labels, predicted)
    return lambda weights: np.asarray(per_class(weights).mean(axis=1))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> ClassMetric:
    r"""Average precision of each class, $\sum_k (R_k - R_{k-1}) P_k$ over the distinct scores.

    Args:
        labels: Boolean, `[sample, class]`.
        scores: `[sample, class]`, higher is more positive.

    Returns:
        A metric that is NaN where a class has no positive with weight.
    """
    truth, numbers = _checked_marks(labels, "labels"), _checked_scores(scores)
    _check_same_shape(truth, numbers)
    rankings = [_rank(*columns) for columns in zip(truth.T, numbers.T, strict=True)]

    def metric(weights: Weights) -> ClassValues:
        by_sample = np.ascontiguousarray(checked_weights(weights, len(truth)).T)
        return np.stack([ranking.average_precision(by_sample) for ranking in rankings], axis=1)

    return metric


def mean_average_precision(
    labels: ArrayLike, scores: ArrayLike, average: Average = "macro"
) -> Metric:
    """Mean of `average_precision` over the classes that have a positive in the resample.

    Args:
        labels: Boolean, `[sample, class]`.
        scores: `[sample, class]`, higher is more positive.
        average: `"macro"` counts classes equally, `"weighted"` by their positives.
    """
    per_class = average_precision(labels, scores)
    truth = np.asarray(labels, dtype=float)

    def metric(weights: Weights) -> Values:
        support = checked_weights(weights, len(truth)) @ truth
        share = support if average == "weighted" else (support > 0).astype(float)
        total = np.where(support > 0, per_class(weights) * share, 0.0).sum(axis=1)
        return divide(total, share.sum(axis=1), undefined=np.nan)

    return metric


def fit_thresholds(labels: ArrayLike, probabilities: ArrayLike) -> Thresholds:
    """Threshold of each class that maximises its F1 under the rule "probability > threshold".

    Thresholds lie in [0, 1), midway between neighbouring distinct probabilities (0 stands below the
    smallest). Of equally good ones the nearest to 0.5 is taken, then the lower, so the result does
    not depend on the order of the samples. A class without a positive gets 0.5.
    """
    truth, numbers = _checked_marks(labels, "labels"), _checked_scores(probabilities)
    _check_same_shape(truth, numbers)
    if numbers.size and (numbers.min() < 0 or numbers.max() > 1):
        raise InputError("thresholds are fitted on probabilities in [0, 1], not on logits")
    columns = zip(truth.T, numbers.T, strict=True)
    return np.array([_fit_threshold(*column) for column in columns])


def predict(
    probabilities: ArrayLike, *, multi_label: bool, thresholds: ArrayLike | None = None
) -> Labels:
    """Turn probabilities into predicted classes, `[sample, class]`.

    Multi-label: every class whose probability exceeds its threshold (0.5 by default). Single label:
    the class with the largest margin over its threshold, which is the arg max for equal thresholds
    and the usual thresholding for two classes with thresholds t and 1 - t; the first of equal ones.
    """
    numbers = _checked_scores(probabilities)
    limits = np.full(numbers.shape[1], 0.5) if thresholds is None else np.asarray(thresholds)
    if limits.shape != numbers.shape[1:]:
        raise InputError(f"{limits.size} thresholds for {numbers.shape[1]} classes: give one each")
    if multi_label:
        return np.asarray(numbers > limits)
    top = np.argmax(numbers if thresholds is None else numbers - limits, axis=1)
    return np.asarray(top[:, None] == np.arange(numbers.shape[1]))


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One class's samples by falling score, cut after each tie group that holds a positive.

    Only there does recall rise, so only there is precision needed. A cut is where a group starts.
    """

    samples: Indices
    cuts: Indices
    positives: Indices
    positive_cuts: Indices

    def average_precision(self, by_sample: Float[np.ndarray, "sample resamples"]) -> Values:
        if not len(self.positives):
            return np.full(by_sample.shape[1], np.nan)
        seen = np.add.reduceat(by_sample[self.samples], self.cuts, axis=0).cumsum(axis=0)
        gained = np.add.reduceat(by_sample[self.positives], self.positive_cuts, axis=0)
        found = gained.cumsum(axis=0)
        precision = divide(found, seen, undefined=0.0)
        return divide((gained * precision).sum(axis=0), found[-1], undefined=np.nan)


def _rank(truth: Marks, scores: Samples) -> _Ranking:
    falling = -scores
    order = np.argsort(falling, kind="stable")
    positives = order[truth[order]]
    levels = np.unique(falling[positives])
    cuts = np.append(0, np.searchsorted(falling[order], levels, side="right"))
    return _Ranking(
        samples=order[: cuts[-1]],
        cuts=cuts[:-1],
        positives=positives,
        positive_cuts=np.searchsorted(falling[positives], levels),
    )


def _fit_threshold(truth: Marks, scores: Samples) -> float:
    if not truth.any():
        return 0.5
    levels, group = np.unique(scores, return_inverse=True)
    predicted = np.bincount(group)[::-1].cumsum()[::-1]
    hits = np.bincount(group, weights=truth)[::-1].cumsum()[::-1]
    quality = 2 * hits / (predicted + truth.sum())
    lower = np.append(0.0, levels[:-1])
    middle = (lower + levels) / 2
    thresholds = np.where(middle < levels, middle, lower)
    usable = thresholds < levels
    best = thresholds[usable & (quality == quality[usable].max(initial=0.0))]
    return float(best[np.argmin(np.abs(best - 0.5))]) if len(best) else 0.5


def _checked_marks(values: ArrayLike, name: str) -> Labels:
    marks = np.asarray(values)
    if marks.ndim != 2 or not np.isin(marks, (0, 1)).all():
        raise InputError(f"{name}: expected true or false per sample and class, not scores")
    _check_classes(marks, name)
    return marks.astype(bool)


def _checked_scores(values: ArrayLike) -> Scores:
    scores = np.asarray(values, dtype=float)
    if scores.ndim != 2:
        raise InputError(f"scores have shape {scores.shape}, expected [sample, class]")
    _check_classes(scores, "scores")
    if np.isnan(scores).any():
        sample, column = np.argwhere(np.isnan(scores))[0]
        raise InputError(
            f"sample {sample}, class {column}: the score is NaN; "
            "has the training diverged? Try a lower learning rate"
        )
    return scores


def _check_classes(values: np.ndarray, name: str) -> None:
    if not values.shape[1]:
        raise InputError(f"{name} have shape {values.shape}: there is no class to judge")


def _check_same_shape(labels: Labels, answers: np.ndarray) -> None:
    if labels.shape != answers.shape:
        raise InputError(f"labels have shape {labels.shape}, but the answers {answers.shape}")
