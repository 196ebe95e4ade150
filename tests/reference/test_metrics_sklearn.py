"""Every classification metric equals scikit-learn with sample weights, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score

from atcon.evaluation import (
    average_precision,
    f1,
    f1_per_class,
    fit_thresholds,
    mean_average_precision,
    predict,
    resample_weights,
)

TIED = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0])
SCORES = {"tied": TIED, "free": st.floats(0, 1)}


@st.composite
def tasks(draw, scores="tied"):
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 4)))
    labels = draw(hnp.arrays(bool, shape))
    probabilities = draw(hnp.arrays(float, shape, elements=SCORES[scores]))
    weights = resample_weights(shape[0], 4, seed=draw(st.integers(0, 99)))
    return labels, probabilities, np.vstack([np.ones((1, shape[0])), weights, 0.3 * weights[:1]])


def expected_precision(labels, scores, weights):
    """One value per class from scikit-learn; NaN where no positive has weight."""
    return [
        average_precision_score(truth, column, sample_weight=weights)
        if weights[truth].sum() > 0
        else np.nan
        for truth, column in zip(labels.T, scores.T, strict=True)
    ]


@pytest.mark.parametrize("kind", SCORES)
def test_average_precision_equals_scikit_learn_on_every_resample(kind):
    @given(tasks(kind))
    @settings(max_examples=60, deadline=None)
    def check(task):
        labels, scores, weights = task
        expected = [expected_precision(labels, scores, row) for row in weights]
        np.testing.assert_allclose(
            average_precision(labels, scores)(weights), expected, rtol=1e-12, atol=1e-12
        )

    check()


@given(tasks())
@settings(max_examples=60, deadline=None)
def test_mean_average_precision_equals_scikit_learn_over_the_classes_with_positives(task):
    labels, scores, weights = task
    macro = mean_average_precision(labels, scores)(weights)
    weighted = mean_average_precision(labels, scores, average="weighted")(weights)
    for row, one, other in zip(weights, macro, weighted, strict=True):
        there = row @ labels > 0
        if not there.any():
            assert np.isnan(one)
            assert np.isnan(other)
            continue
        arguments = {"y_true": labels[:, there], "y_score": scores[:, there], "sample_weight": row}
        for value, average in ((one, "macro"), (other, "weighted")):
            expected = average_precision_score(**arguments, average=average)
            assert value == pytest.approx(expected, abs=1e-12)


@given(tasks())
@settings(max_examples=60, deadline=None)
def test_f1_equals_scikit_learn_on_every_resample(task):
    labels, scores, weights = task
    predicted = predict(scores, multi_label=True)
    per_class, macro = f1_per_class(labels, predicted)(weights), f1(labels, predicted)(weights)
    for row, values, mean in zip(weights, per_class, macro, strict=True):
        expected = [
            f1_score(truth, answer, sample_weight=row, zero_division=0.0)
            for truth, answer in zip(labels.T, predicted.T, strict=True)
        ]
        np.testing.assert_allclose(values, expected, atol=1e-12)
        assert mean == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("thresholds", [None, [0.2, 0.5, 0.3]])
def test_single_label_macro_f1_equals_scikit_learn_on_class_numbers(thresholds):
    generator = np.random.default_rng(3)
    truth = generator.integers(3, size=200)
    probabilities = generator.dirichlet([1, 1, 1], size=200)
    answer = predict(probabilities, multi_label=False, thresholds=thresholds)
    weights = resample_weights(200, 5, seed=0)
    expected = [
        f1_score(truth, answer.argmax(axis=1), average="macro", sample_weight=row)
        for row in weights
    ]
    np.testing.assert_allclose(f1(np.eye(3, dtype=bool)[truth], answer)(weights), expected)


@pytest.mark.parametrize("kind", SCORES)
def test_no_other_threshold_has_a_better_f1_than_the_fitted_one(kind):
    @given(tasks(kind))
    @settings(max_examples=60, deadline=None)
    def check(task):
        labels, scores, _ = task
        fitted = fit_thresholds(labels, scores)
        for truth, column, threshold in zip(labels.T, scores.T, fitted, strict=True):
            score = f1_score(truth, column > threshold, zero_division=0.0)
            others = [
                f1_score(truth, column > other, zero_division=0.0)
                for other in (0.0, 0.5, *column[column < 1])
            ]
            assert score == pytest.approx(max(others), abs=1e-12)

    check()
