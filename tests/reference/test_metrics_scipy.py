"""Intervals and tests agree with scipy's independent implementations."""

import numpy as np
import pytest
from scipy import stats

from atcon.evaluation import (
    bootstrap,
    paired_bootstrap,
    paired_over_seeds,
    resample_weights,
    weighted_mean,
)

RESAMPLES = 20_000


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("draw", [np.random.Generator.normal, np.random.Generator.exponential])
def test_interval_of_a_mean_agrees_with_scipy_percentile_bootstrap(draw, level):
    values = draw(np.random.default_rng(0), size=80)
    ours = bootstrap(
        weighted_mean(values, np.ones(80, dtype=bool)),
        resample_weights(80, RESAMPLES, seed=1),
        level=level,
    )
    scipys = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    noise = 0.1 * values.std() / np.sqrt(80)  # four standard errors of the difference
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=noise)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=noise)
    assert ours.value == pytest.approx(values.mean())


def test_interval_of_a_ratio_over_valid_samples_agrees_with_scipy():
    generator = np.random.default_rng(4)
    values, valid = generator.normal(size=60), generator.random(60) < 0.5
    ours = bootstrap(weighted_mean(values, valid), resample_weights(60, RESAMPLES, seed=1))
    scipys = stats.bootstrap(
        (values, valid),
        lambda x, keep, axis: (x * keep).sum(axis=axis) / keep.sum(axis=axis),
        n_resamples=RESAMPLES,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=0.02)


def test_paired_interval_agrees_with_scipy_and_is_narrower_than_an_unpaired_one():
    generator = np.random.default_rng(5)
    before = generator.normal(size=100)
    after = before + generator.normal(0.1, 0.2, size=100)
    every = np.ones(100, dtype=bool)
    weights = resample_weights(100, RESAMPLES, seed=1)
    ours = paired_bootstrap(weighted_mean(after, every), weighted_mean(before, every), weights)
    scipys = stats.bootstrap(
        (after, before),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        n_resamples=RESAMPLES,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=0.003)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=0.003)
    unpaired = 2 * 1.96 * np.sqrt(after.var() / 100 + before.var() / 100)
    assert ours.high - ours.low < unpaired / 3


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_test_over_seeds_equals_scipy_t_test(seeds, level):
    differences = np.random.default_rng(seeds).normal(0.5, 1, size=seeds)
    expected = stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval(level)
    gain = paired_over_seeds(differences, level=level)
    np.testing.assert_allclose(
        [gain.value, gain.low, gain.high, gain.p],
        [differences.mean(), interval.low, interval.high, expected.pvalue],
        rtol=1e-9,
    )
