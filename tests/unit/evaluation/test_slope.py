import numpy as np
import pytest
from scipy.stats import linregress

from atcon.errors import InputError
from atcon.evaluation import (
    gain_against_middle,
    gain_against_start,
    on_resamples,
    point,
    regression_to_the_mean,
    resample_weights,
)


def measured(count=400, *, spread=(1.0, 1.0), seed=0, noise=0.5):
    """Two measurements of the same things, each with noise of its own."""
    random = np.random.default_rng(seed)
    thing = random.standard_normal(count)
    return tuple(
        0.9 + 0.01 * own * (thing + noise * random.standard_normal(count)) for own in spread
    )


def test_both_slopes_are_those_of_least_squares_also_on_resamples():
    before, after = measured(60, spread=(1, 0.7))
    weights = resample_weights(60, 20, seed=1)
    middle = (before + after) / 2
    for metric, x in (
        (gain_against_start(before, after), before),
        (gain_against_middle(before, after), middle),
    ):
        assert point(metric, 60) == pytest.approx(linregress(x, after - before).slope)
        drawn = [np.repeat(np.arange(60), row.astype(int)) for row in weights]
        expected = [linregress(x[one], (after - before)[one]).slope for one in drawn]
        np.testing.assert_allclose(on_resamples(metric, weights), expected, rtol=1e-8)


def test_noise_alone_makes_the_gain_fall_with_the_start_but_not_with_the_middle():
    before, after = measured(20_000)
    reliability = 1 / (1 + 0.5**2)
    assert point(gain_against_start(before, after), 20_000) == pytest.approx(
        reliability - 1, abs=0.02
    )
    assert point(regression_to_the_mean(before, after), 20_000) == pytest.approx(
        np.corrcoef(before, after)[0, 1] - 1, rel=1e-9
    )
    assert point(gain_against_middle(before, after), 20_000) == pytest.approx(0, abs=0.02)


def test_where_the_low_gain_more_than_by_chance_the_slope_on_the_middle_is_negative():
    before, after = measured(20_000, spread=(1, 0.6))
    assert point(gain_against_middle(before, after), 20_000) < -0.4
    before, after = measured(20_000, spread=(0.6, 1))
    assert point(gain_against_middle(before, after), 20_000) > 0.4


def test_ninety_percent_intervals_of_the_slope_on_the_middle_cover_zero_under_noise_alone():
    hits = 0
    for seed in range(200):
        before, after = measured(100, seed=seed)
        values = on_resamples(
            gain_against_middle(before, after), resample_weights(100, 200, seed=seed)
        )
        low, high = np.quantile(values, [0.05, 0.95])
        hits += low <= 0 <= high
    assert 0.84 <= hits / 200 <= 0.95


def test_images_that_were_not_measured_do_not_count():
    before, after = measured(50)
    more = [np.concatenate([before, [np.nan, 0.1]]), np.concatenate([after, [0.2, 0.1]])]
    more[1][-1] = np.nan
    assert point(gain_against_start(*more), 52) == pytest.approx(
        point(gain_against_start(before, after), 50)
    )


def test_without_spread_there_is_no_slope():
    same = np.full(5, 0.7)
    assert np.isnan(point(gain_against_start(same, np.arange(5.0)), 5))
    assert point(gain_against_start(np.arange(5.0), np.arange(5.0)), 5) == 0
    with pytest.raises(InputError, match="of the same samples"):
        gain_against_start(same, same[:3])
