"""Resamples, intervals and paired gains: laws of the percentile bootstrap."""

from dataclasses import astuple
from importlib import import_module

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    Gain,
    Interval,
    average_precision,
    bootstrap,
    bootstrap_per_class,
    f1,
    mean_average_precision,
    paired_bootstrap,
    resample_weights,
    weighted_mean,
)


def mean(values):
    return weighted_mean(values, np.ones(len(values), dtype=bool))


def test_every_resample_draws_as_many_samples_as_there_are():
    weights = resample_weights(40, 200, seed=0)
    assert weights.shape == (200, 40)
    np.testing.assert_array_equal(weights.sum(axis=1), 40)
    np.testing.assert_array_equal(weights, weights.astype(int))


def test_counts_have_the_moments_of_the_multinomial_distribution():
    weights = resample_weights(10, 20_000, seed=0)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(weights.var(axis=0), 0.9, atol=0.04)
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-0.1, abs=0.03)


def test_the_same_seed_gives_the_same_resamples_and_another_seed_others():
    first = resample_weights(20, 5, seed=3)
    np.testing.assert_array_equal(first, resample_weights(20, 5, seed=3))
    np.testing.assert_array_equal(first, resample_weights(20, 5, seed=np.random.default_rng(3)))
    assert (first != resample_weights(20, 5, seed=4)).any()


def test_drawing_leaves_the_global_random_state_alone():
    np.random.seed(0)  # noqa: NPY002 - the global state is what this test is about
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    resample_weights(20, 5, seed=3)
    assert np.random.random() == expected  # noqa: NPY002


def test_groups_are_drawn_whole():
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    weights = resample_weights(6, 300, seed=0, groups=patients)
    for name in "abc":
        assert np.ptp(weights[:, patients == name], axis=1).max() == 0
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_groups_of_one_are_samples():
    np.testing.assert_array_equal(
        resample_weights(7, 9, seed=0, groups=np.arange(7)), resample_weights(7, 9, seed=0)
    )


def test_dependent_samples_widen_the_interval_when_drawn_by_group():
    patients = np.repeat(np.arange(20), 10)
    values = np.random.default_rng(0).normal(size=20)[patients]
    naive, whole = (
        bootstrap(mean(values), resample_weights(200, 1000, seed=0, groups=groups))
        for groups in (None, patients)
    )
    ratio = (whole.high - whole.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_the_interval_lies_between_the_quantiles_of_the_resampled_values(level):
    values = np.random.default_rng(0).normal(size=30)
    weights = resample_weights(30, 500, seed=1)
    means = sorted(float(np.average(values, weights=row)) for row in weights)
    interval = bootstrap(mean(values), weights, level=level)
    outside = (1 - level) / 2 * 499
    assert means[int(outside)] <= interval.low <= means[int(outside) + 1]
    assert means[499 - int(outside) - 1] <= interval.high <= means[499 - int(outside)]
    assert interval.value == pytest.approx(values.mean())


def test_the_ninety_percent_interval_covers_the_truth_about_nine_times_in_ten():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        values = generator.normal(1.0, 2.0, size=60)
        interval = bootstrap(mean(values), resample_weights(60, 300, seed=trial), level=0.9)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.85 <= covered / 400 <= 0.95


def test_the_paired_test_rejects_a_true_null_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    rejected = 0
    for trial in range(400):
        before = generator.normal(size=60)
        after = before + generator.normal(0, 0.5, size=60)
        weights = resample_weights(60, 300, seed=trial)
        rejected += paired_bootstrap(mean(after), mean(before), weights).p <= 0.1
    assert 0.05 <= rejected / 400 <= 0.15


def test_cutting_the_resamples_into_chunks_changes_nothing(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    weights = resample_weights(50, 100, seed=0)
    whole = bootstrap(mean(values), weights)
    for chunk in (1, 7 * 50, 60 * 50):
        monkeypatch.setattr(import_module("atcon.evaluation.bootstrap"), "CHUNK", chunk)
        cut = bootstrap(mean(values), weights)
        assert astuple(cut) == pytest.approx(astuple(whole), rel=1e-12)


def test_resamples_in_which_the_metric_is_undefined_are_left_out():
    values, valid = np.array([2.0, 0, 0, 0]), np.array([True, False, False, False])
    weights = resample_weights(4, 200, seed=0)
    assert (weights[:, 0] == 0).any()
    assert bootstrap(weighted_mean(values, valid), weights) == Interval(2.0, 2.0, 2.0)


def test_a_metric_that_is_undefined_on_the_samples_has_no_interval_and_no_gain():
    nothing = weighted_mean([1.0, 2.0], [False, False])
    something = mean(np.array([1.0, 2.0]))
    weights = resample_weights(2, 20, seed=0)
    assert bootstrap(nothing, weights) is None
    assert paired_bootstrap(something, nothing, weights) is None
    assert paired_bootstrap(nothing, something, weights) is None


def arms(metric):
    generator = np.random.default_rng(0)
    labels = generator.random((300, 4)) < 0.3
    weak = np.clip(0.2 * labels + generator.random(labels.shape), 0, 1)
    strong = np.clip(weak + 0.3 * labels - 0.1, 0, 1)
    return metric(labels, strong), metric(labels, weak)


METRICS = {
    "map": mean_average_precision,
    "f1": lambda labels, scores: f1(labels, scores > 0.5),
    "mean": lambda labels, scores: mean(np.where(labels, scores, 1 - scores).mean(axis=1)),
}
EVERY = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@EVERY
def test_identical_arms_have_no_gain_and_no_evidence(metric):
    same, _ = arms(metric)
    assert paired_bootstrap(same, same, resample_weights(300, 200, seed=0)) == Gain(0, 0, 0, 1)


@EVERY
def test_a_clear_gain_has_an_interval_above_zero_and_the_smallest_p(metric):
    gain = paired_bootstrap(*arms(metric), resample_weights(300, 200, seed=0))
    assert 0 < gain.low <= gain.value <= gain.high
    assert gain.p == pytest.approx(2 / 201)


@EVERY
def test_exchanging_the_arms_mirrors_the_gain(metric):
    after, before = arms(metric)
    weights = resample_weights(300, 200, seed=0)
    gain = paired_bootstrap(after, before, weights)
    mirrored = paired_bootstrap(before, after, weights)
    assert mirrored.value == -gain.value
    assert mirrored.low == pytest.approx(-gain.high)
    assert mirrored.high == pytest.approx(-gain.low)
    assert mirrored.p == gain.p


def test_p_of_a_worked_example():
    after, before = mean(np.array([1.0, -1.0])), mean(np.array([0.0, 0.0]))
    weights = np.array([[2, 0]] * 5 + [[0, 2]] * 3 + [[1, 1]], dtype=float)
    gain = paired_bootstrap(after, before, weights)
    assert gain.p == pytest.approx(2 * (1 + 4) / 10)
    assert (gain.value, gain.low, gain.high) == (0, -1, 1)


def test_wrong_arguments_name_what_is_wrong():
    with pytest.raises(InputError, match="0 samples"):
        resample_weights(0, 10, seed=0)
    with pytest.raises(InputError, match="0 resamples"):
        resample_weights(10, 0, seed=0)
    with pytest.raises(InputError, match="one name per sample"):
        resample_weights(3, 10, seed=0, groups=["a", "b"])
    with pytest.raises(InputError, match="level 95"):
        bootstrap(mean(np.array([1.0, 2.0])), np.ones((3, 2)), level=95)


def test_per_class_intervals_are_those_of_each_class_alone():
    generator = np.random.default_rng(5)
    labels = generator.random((60, 3)) < (0.4, 0.0, 0.2)
    scores = generator.random((60, 3))
    weights = resample_weights(60, 200, seed=3)
    metric = average_precision(labels, scores)
    found = bootstrap_per_class(metric, weights, level=0.9)
    alone = [bootstrap(lambda rows, c=c: metric(rows)[:, c], weights, level=0.9) for c in range(3)]
    assert found == alone
    assert found[1] is None
    assert found[0].low < found[0].value < found[0].high
