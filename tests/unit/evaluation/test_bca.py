"""The corrected interval: where there is nothing to correct, and what cannot be."""

from importlib import import_module

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    Gain,
    Interval,
    average_precision,
    bca,
    bootstrap,
    f1,
    hierarchical_bca,
    hierarchical_bootstrap,
    jackknife,
    paired_bca,
    resample_weights,
    weighted_mean,
)

SAMPLES = 40
WEIGHTS = resample_weights(SAMPLES, 2000, seed=0)


def mean(values):
    return weighted_mean(values, np.ones(len(values), dtype=bool))


def test_the_jackknife_of_a_metric_is_a_loop_over_the_images_left_out():
    generator = np.random.default_rng(0)
    labels, predicted = generator.random((2, SAMPLES, 3)) < 0.5
    expected = [
        f1(np.delete(labels, out, axis=0), np.delete(predicted, out, axis=0))(
            np.ones((1, SAMPLES - 1))
        )[0]
        for out in range(SAMPLES)
    ]
    np.testing.assert_allclose(jackknife(f1(labels, predicted), SAMPLES), expected)


def test_whole_groups_are_left_out():
    values, groups = np.array([1.0, 2, 4, 8]), ["b", "a", "b", "c"]
    expected = [(1 + 4 + 8) / 3, (2 + 8) / 2, (1 + 2 + 4) / 3]
    np.testing.assert_allclose(jackknife(mean(values), 4, groups=groups), expected)


@pytest.mark.parametrize("chunk", [1, 60, 10**9])
def test_the_jackknife_is_the_same_in_parts(chunk, monkeypatch):
    values = np.random.default_rng(1).normal(size=SAMPLES)
    expected = (values.sum() - values) / (SAMPLES - 1)
    monkeypatch.setattr(import_module("atcon.evaluation.bca"), "CHUNK", chunk)
    np.testing.assert_allclose(jackknife(mean(values), SAMPLES), expected)


def test_a_mean_of_symmetric_values_needs_hardly_a_correction():
    half = np.random.default_rng(2).normal(size=SAMPLES // 2)
    metric = mean(np.concatenate([half, -half]))
    plain, fine = bootstrap(metric, WEIGHTS), bca(metric, WEIGHTS)
    width = plain.high - plain.low
    assert (fine.low, fine.high) == pytest.approx((plain.low, plain.high), abs=0.06 * width)


def test_the_interval_of_skewed_values_moves_towards_their_tail():
    values = np.random.default_rng(3).exponential(size=SAMPLES)
    up, down = ((bootstrap(mean(v), WEIGHTS), bca(mean(v), WEIGHTS)) for v in (values, -values))
    assert up[1].low > up[0].low
    assert up[1].high > up[0].high
    assert down[1].low == pytest.approx(-up[1].high)
    assert down[1].high == pytest.approx(-up[1].low)


@pytest.mark.parametrize("shift", [-0.25, -0.1, 0.1, 0.35])
def test_the_p_value_is_where_the_interval_touches_zero(shift):
    generator = np.random.default_rng(4)
    before = generator.normal(size=SAMPLES)
    after = before + generator.exponential(size=SAMPLES) - 1 + shift
    gain = paired_bca(mean(after), mean(before), WEIGHTS)
    assert 0.02 < gain.p < 0.99
    ends = [
        paired_bca(mean(after), mean(before), WEIGHTS, level=1 - p)
        for p in (0.93 * gain.p, min(1.07 * gain.p, 0.999))
    ]
    assert ends[0].low <= 0 <= ends[0].high
    assert not ends[1].low <= 0 <= ends[1].high


def test_exchanging_the_arms_mirrors_the_gain():
    generator = np.random.default_rng(5)
    after, before = generator.exponential(size=(2, SAMPLES))
    gain = paired_bca(mean(after), mean(before), WEIGHTS)
    mirrored = paired_bca(mean(before), mean(after), WEIGHTS)
    assert mirrored.value == pytest.approx(-gain.value)
    assert (mirrored.low, mirrored.high) == pytest.approx((-gain.high, -gain.low))
    assert mirrored.p == pytest.approx(gain.p)


def test_a_metric_that_never_varies_has_an_interval_without_width():
    ones = np.ones(SAMPLES)
    assert bca(mean(ones), WEIGHTS) == Interval(1, 1, 1)
    assert paired_bca(mean(ones), mean(ones), WEIGHTS) == Gain(0, 0, 0, 1)


def test_a_p_value_is_never_zero():
    values = np.random.default_rng(6).normal(5, 1, size=SAMPLES)
    gain = paired_bca(mean(values), mean(np.zeros(SAMPLES)), WEIGHTS)
    assert 2 / 2001 <= gain.p < 0.005


def test_a_metric_that_is_not_defined_has_no_interval():
    nowhere = weighted_mean(np.zeros(SAMPLES), np.zeros(SAMPLES, dtype=bool))
    assert bca(nowhere, WEIGHTS) is None
    assert paired_bca(nowhere, nowhere, WEIGHTS) is None


def test_a_value_beyond_all_its_resamples_has_no_corrected_interval():
    assert bca(lambda rows: (rows == 0).any(axis=1).astype(float), WEIGHTS) is None


def test_resamples_and_images_without_which_there_is_no_value_are_left_out():
    labels = np.zeros((SAMPLES, 1), dtype=bool)
    labels[7] = True
    per_class = average_precision(labels, np.linspace(0, 1, SAMPLES)[::-1, None])
    metric = lambda rows: per_class(rows)[:, 0]  # noqa: E731
    assert np.isnan(jackknife(metric, SAMPLES)).sum() == 1
    found = bca(metric, WEIGHTS)
    assert 0 < found.low < found.value < found.high < 1


@pytest.mark.parametrize(
    ("groups", "said"),
    [(["a", "b"], "one name a sample"), (["a"] * SAMPLES, "two or more")],
)
def test_groups_that_leave_nothing_to_leave_out_are_refused(groups, said):
    with pytest.raises(InputError, match=said):
        bca(mean(np.ones(SAMPLES)), WEIGHTS, groups=groups)


def over_seeds(values, procedure, **options):
    metrics = [mean(row) for row in values]
    rows = np.stack([metric(WEIGHTS) for metric in metrics])
    without = np.stack([jackknife(metric, SAMPLES) for metric in metrics])
    points = values.mean(axis=1)
    extra = [(without, np.zeros_like(without))] if procedure is hierarchical_bca else []
    return procedure(
        rows, np.zeros_like(rows), (points, np.zeros_like(points)), *extra, seed=0, **options
    )


def test_over_one_seed_it_is_the_interval_of_the_images():
    values = np.random.default_rng(7).exponential(size=(1, SAMPLES))
    zeros = mean(np.zeros(SAMPLES))
    ours = over_seeds(values, hierarchical_bca)
    expected = paired_bca(mean(values[0]), zeros, WEIGHTS)
    assert (ours.low, ours.high, ours.p) == pytest.approx((expected.low, expected.high, expected.p))


def test_over_symmetric_seeds_and_images_it_is_the_percentile_interval():
    generator = np.random.default_rng(8)
    rows, columns = generator.normal(size=4), generator.normal(size=SAMPLES // 2)
    values = np.concatenate([rows, -rows])[:, None] + np.concatenate([columns, -columns])
    plain, fine = (over_seeds(values, one) for one in (hierarchical_bootstrap, hierarchical_bca))
    width = plain.high - plain.low
    assert (fine.low, fine.high) == pytest.approx((plain.low, plain.high), abs=0.08 * width)


def test_left_out_images_of_other_seeds_are_refused():
    rows, points = np.zeros((3, 5)), np.zeros(3)
    with pytest.raises(InputError, match="3 seeds"):
        hierarchical_bca(
            rows, rows, (points, points), (np.zeros((2, 9)), np.zeros((2, 9))), seed=0
        )  # fmt: skip
