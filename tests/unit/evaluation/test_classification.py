"""F1, mAP, thresholds and predictions: known answers and invariances."""

import time

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    average_precision,
    bootstrap,
    f1,
    f1_per_class,
    fit_thresholds,
    mean_average_precision,
    paired_bootstrap,
    point,
    predict,
    resample_weights,
)

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((200, 5)) < [0.1, 0.2, 0.3, 0.4, 0.5]
RANDOM = GENERATOR.random(LABELS.shape)
PERFECT = 0.5 * LABELS + 0.499 * RANDOM + 0.0005


def test_average_precision_of_a_worked_example():
    labels = np.array([[True], [False], [True], [False]])
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    assert point(average_precision(labels, scores), 4) == pytest.approx([(1 + 2 / 3) / 2])
    tied = np.array([[0.9], [0.7], [0.7], [0.1]])
    assert point(average_precision(labels, tied), 4) == pytest.approx([0.5 + 0.5 * 2 / 3])


def test_f1_of_a_worked_example():
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)
    assert point(f1_per_class(labels, predicted), 4) == pytest.approx([2 / 3, 0, 0])
    assert point(f1(labels, predicted), 4) == pytest.approx(2 / 9)


def test_a_perfect_ranking_scores_one_in_every_resample():
    weights = resample_weights(200, 50, seed=0)
    np.testing.assert_allclose(mean_average_precision(LABELS, PERFECT)(weights), 1)
    np.testing.assert_allclose(f1(LABELS, predict(PERFECT, multi_label=True))(weights), 1)


def test_perfect_random_and_inverted_predictions_are_told_apart():
    for metric in (mean_average_precision, lambda y, s: f1(y, predict(s, multi_label=True))):
        perfect, random, inverted = (
            float(point(metric(LABELS, scores), 200)) for scores in (PERFECT, RANDOM, 1 - PERFECT)
        )
        assert perfect > random + 0.3
        assert random > inverted + 0.05


def test_a_random_ranking_has_the_frequency_of_the_class_as_average_precision():
    generator = np.random.default_rng(8)
    labels = generator.random((5000, 3)) < [0.1, 0.3, 0.6]
    values = point(average_precision(labels, generator.random(labels.shape)), 5000)
    np.testing.assert_allclose(values, labels.mean(axis=0), atol=0.03)


def test_a_constant_score_has_the_frequency_of_the_class_as_average_precision():
    values = point(average_precision(LABELS, np.full(LABELS.shape, 0.5)), 200)
    np.testing.assert_allclose(values, LABELS.mean(axis=0))


def test_permuting_the_classes_permutes_the_values_and_keeps_the_means():
    order = np.array([3, 0, 4, 1, 2])
    weights = resample_weights(200, 10, seed=0)
    for per_class, mean, answers in (
        (average_precision, mean_average_precision, RANDOM),
        (f1_per_class, f1, RANDOM > 0.5),
    ):
        values = per_class(LABELS, answers)(weights)
        permuted = per_class(LABELS[:, order], answers[:, order])(weights)
        np.testing.assert_array_equal(permuted, values[:, order])
        np.testing.assert_allclose(
            mean(LABELS[:, order], answers[:, order])(weights), mean(LABELS, answers)(weights)
        )


def test_average_precision_depends_on_the_ranking_only():
    weights = resample_weights(200, 10, seed=0)
    logits = np.log(RANDOM / (1 - RANDOM))
    np.testing.assert_array_equal(
        average_precision(LABELS, RANDOM)(weights), average_precision(LABELS, logits)(weights)
    )


def test_a_class_without_positives_leaves_the_mean_and_never_makes_it_undefined():
    labels, scores = LABELS.copy(), RANDOM
    labels[:, 0] = False
    for average in ("macro", "weighted"):
        value = point(mean_average_precision(labels, scores, average), 200)
        rest = point(mean_average_precision(labels[:, 1:], scores[:, 1:], average), 200)
        assert value == pytest.approx(float(rest))
    assert np.isnan(point(average_precision(labels, scores), 200)[0])
    assert np.isnan(point(mean_average_precision(labels[:, :1], scores[:, :1]), 200))


def test_support_weighted_mean_counts_classes_by_their_positives():
    values, support = point(average_precision(LABELS, RANDOM), 200), LABELS.sum(axis=0)
    expected = (values * support).sum() / support.sum()
    weighted = point(mean_average_precision(LABELS, RANDOM, "weighted"), 200)
    assert weighted == pytest.approx(expected)
    assert weighted != pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("labels", "scores", "threshold"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.9], 0.3),  # separable: midway
        ([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.9], 0.15),  # F1 0.8 against 0.67 and below
        ([0, 0, 0], [0.1, 0.2, 0.4], 0.5),  # nothing to fit
        ([1, 1], [0.2, 0.4], 0.1),  # everything is positive
        ([1, 0], [0.5, 0.5], 0.25),  # indistinguishable
        ([0, 1], [0.0, 0.0], 0.5),  # no threshold in [0, 1) finds it
        ([1, 0, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.65, 0.6, 0.55], 0.675),  # equal at 0.275
        ([0, 1, 0, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.9], 0.65),  # equal at 0.15
    ],
)
def test_the_threshold_of_a_worked_example(labels, scores, threshold):
    fitted = fit_thresholds(np.array(labels, dtype=bool)[:, None], np.array(scores)[:, None])
    assert fitted == pytest.approx([threshold])


def test_a_threshold_separates_scores_that_are_neighbouring_floating_point_numbers():
    low, high = 0.3, np.nextafter(0.3, 1)
    labels, scores = np.array([[False], [True]]), np.array([[low], [high]])
    assert predict(
        scores, multi_label=True, thresholds=fit_thresholds(labels, scores)
    ).tolist() == [
        [False],
        [True],
    ]


def test_thresholds_do_not_depend_on_the_order_of_the_samples_nor_on_other_classes():
    tied, order = np.round(RANDOM, 1), np.random.default_rng(1).permutation(200)
    fitted = fit_thresholds(LABELS, tied)
    np.testing.assert_array_equal(fit_thresholds(LABELS[order], tied[order]), fitted)
    np.testing.assert_array_equal(fit_thresholds(LABELS[:, 2:3], tied[:, 2:3]), fitted[2:3])


def test_thresholds_are_fitted_on_probabilities_only():
    with pytest.raises(InputError, match="not on logits"):
        fit_thresholds(LABELS, 10 * RANDOM)


def test_predictions_exceed_the_threshold_strictly():
    assert predict([[0.5, 0.6]], multi_label=True).tolist() == [[False, True]]
    thresholds = [0.4, 0.6]
    assert predict([[0.5, 0.6]], multi_label=True, thresholds=thresholds).tolist() == [
        [True, False]
    ]


def test_a_single_label_prediction_is_one_class_and_the_first_of_equals():
    predicted = predict([[0.2, 0.4, 0.4], [0.7, 0.2, 0.1]], multi_label=False)
    assert predicted.tolist() == [[False, True, False], [True, False, False]]


def test_equal_thresholds_leave_the_single_label_prediction_alone():
    probabilities = np.random.default_rng(2).dirichlet([1, 1, 1], size=100)
    for level in (0.1, 0.5, 0.9):
        np.testing.assert_array_equal(
            predict(probabilities, multi_label=False, thresholds=[level] * 3),
            predict(probabilities, multi_label=False),
        )


def test_two_single_labels_with_complementary_thresholds_are_thresholded_as_one():
    positive = np.linspace(0.01, 0.99, 50)
    probabilities = np.stack([1 - positive, positive], axis=1)
    predicted = predict(probabilities, multi_label=False, thresholds=[1 - 0.275, 0.275])
    np.testing.assert_array_equal(predicted[:, 1], positive > 0.275)


def test_wrong_arguments_name_what_is_wrong():
    with pytest.raises(InputError, match="predicted: expected true or false"):
        f1(LABELS, RANDOM)
    with pytest.raises(InputError, match="labels have shape"):
        f1(LABELS, np.zeros((200, 4), dtype=bool))
    with pytest.raises(InputError, match="2 thresholds for 5 classes"):
        predict(RANDOM, multi_label=True, thresholds=[0.5, 0.5])
    broken = RANDOM.copy()
    broken[7, 3] = np.nan
    for call in (
        lambda: average_precision(LABELS, broken),
        lambda: predict(broken, multi_label=True),
        lambda: fit_thresholds(LABELS, broken),
    ):
        with pytest.raises(InputError, match="sample 7, class 3: the score is NaN"):
            call()
    with pytest.raises(InputError, match="expected \\[sample, class\\]"):
        predict([0.5, 0.6], multi_label=True)


def test_a_thousand_resamples_of_pascal_voc_take_less_than_ten_seconds():
    generator = np.random.default_rng(0)
    labels = generator.random((5823, 20)) < 0.07
    arms = [np.clip(0.3 * labels + generator.random(labels.shape), 0, 1) for _ in range(2)]
    start = time.process_time()
    weights = resample_weights(5823, 1000, seed=0)
    for build in (mean_average_precision, lambda y, s: f1(y, predict(s, multi_label=True))):
        after, before = (build(labels, scores) for scores in arms)
        assert bootstrap(after, weights) is not None
        assert paired_bootstrap(after, before, weights) is not None
    assert time.process_time() - start < 10
