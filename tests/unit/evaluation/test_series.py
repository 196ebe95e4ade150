import numpy as np
import pytest
from scipy.stats import pearsonr
from scipy.stats import t as student

from atcon.errors import InputError
from atcon.evaluation import (
    changes,
    correlation_in_a_run,
    correlation_of_series,
    correlation_over_runs,
)


def pairs(count, epochs, memory, correlation, seed=0):
    """Pairs of first-order autoregressive series whose correlation is known."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, epochs + 200, 2))
    noise[..., 1] = correlation * noise[..., 0] + np.sqrt(1 - correlation**2) * noise[..., 1]
    series = np.zeros_like(noise)
    for epoch in range(1, series.shape[1]):
        series[:, epoch] = memory * series[:, epoch - 1] + noise[:, epoch]
    return series[:, 200:]


def covered(found, truth):
    return np.mean([one.low <= truth <= one.high for one in found])


def test_the_correlation_is_scipys_and_positive_where_both_fall():
    one, other = np.moveaxis(pairs(1, 50, 0.5, 0.6)[0], -1, 0)
    assert correlation_of_series(one, other) == pytest.approx(pearsonr(one, other)[0], rel=1e-12)
    falling = -np.log(np.arange(1, 20))
    assert correlation_of_series(falling, falling * 3 + 1) == pytest.approx(1)
    assert correlation_of_series(falling, -falling) == pytest.approx(-1)


def test_epochs_in_which_one_is_not_known_are_left_out():
    one, other = np.moveaxis(pairs(1, 30, 0.0, 0.6)[0], -1, 0)
    one[3], other[7] = np.nan, np.inf
    known = np.isfinite(one) & np.isfinite(other)
    assert known.sum() == 28
    expected = pearsonr(one[known], other[known])[0]
    assert correlation_of_series(one, other) == pytest.approx(expected)
    assert correlation_in_a_run(one, other) == correlation_in_a_run(one[known], other[known])


def test_what_is_constant_or_too_short_has_no_correlation():
    line = np.arange(10.0)
    for one, other in ((np.ones(10), line), (line, np.ones(10)), (line[:3], line[:3])):
        assert np.isnan(correlation_of_series(one, other))
        assert correlation_in_a_run(one, other) is None
    with pytest.raises(InputError, match="of one length"):
        correlation_of_series(line, line[:5])


@pytest.mark.parametrize("epochs", [30, 100])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8, 0.9])
def test_the_interval_of_a_run_covers_what_it_says_although_epochs_are_not_independent(
    epochs, correlation, memory
):
    drawn = pairs(300, epochs, memory, correlation, seed=1)
    found = [correlation_in_a_run(one[:, 0], one[:, 1]) for one in drawn]
    assert covered(found, correlation) >= 0.925
    if memory == 0:  # and it is not merely wide: Fisher's interval for independent epochs
        widths = np.arctanh([one.high for one in found]) - np.arctanh([one.low for one in found])
        assert np.median(widths) < 1.15 * 2 * 1.96 / np.sqrt(epochs - 3)


def test_the_interval_for_independent_epochs_would_not():
    drawn = pairs(300, 100, 0.9, 0.0, seed=1)
    z = np.arctanh([correlation_of_series(one[:, 0], one[:, 1]) for one in drawn])
    assert np.mean(np.abs(z) < 1.96 / np.sqrt(97)) < 0.6


def test_a_common_trend_makes_the_interval_of_one_run_wide_and_leaves_the_changes_alone():
    random = np.random.default_rng(2)
    trend = np.linspace(1, 0, 60)
    one, other = (trend + 0.05 * random.standard_normal(60) for _ in range(2))
    found = correlation_in_a_run(one, other)
    assert found.value > 0.9
    assert found.low < 0.3
    between = correlation_in_a_run(changes(one), changes(other))
    assert between.low < 0 < between.high


def test_over_runs_it_is_the_mean_of_fishers_z_with_students_interval():
    values = np.array([0.7, 0.9, 0.4, np.nan])
    z = np.arctanh(values[:3])
    margin = student.ppf(0.95, 2) * z.std(ddof=1) / np.sqrt(3)
    found = correlation_over_runs(values, level=0.9)
    assert found.value == pytest.approx(np.tanh(z.mean()))
    assert found.low == pytest.approx(np.tanh(z.mean() - margin))
    assert found.high == pytest.approx(np.tanh(z.mean() + margin))
    assert correlation_over_runs([0.5, np.nan]) is None
    assert correlation_over_runs([1.0, 1.0]).value == pytest.approx(1)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_interval_over_five_runs_covers_what_it_says(correlation):
    drawn = pairs(5 * 400, 40, 0.8, correlation, seed=3)
    values = [correlation_of_series(one[:, 0], one[:, 1]) for one in drawn]
    found = [correlation_over_runs(values[i : i + 5]) for i in range(0, len(values), 5)]
    assert 0.92 <= covered(found, correlation) <= 0.98
