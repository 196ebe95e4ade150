"""Gains over seeds and images: the two limits are known, and what few seeds do is measured."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from atcon.errors import InputError
from atcon.evaluation import (
    Gain,
    hierarchical_bootstrap,
    on_resamples,
    paired_bootstrap,
    paired_over_seeds,
    point,
    resample_weights,
    weighted_mean,
)

IMAGES, RESAMPLES = 80, 400
WEIGHTS = resample_weights(IMAGES, RESAMPLES, seed=5)


def mean(values):
    return weighted_mean(values, np.ones(len(values), dtype=bool))


def gain_of(after, before, *, seed=0, draws=None, level=0.95):
    """The gain of a mean over images, from its values `[seed, image]` in both arms."""
    arms = [[mean(row) for row in arm] for arm in (after, before)]
    resampled = [[on_resamples(metric, WEIGHTS) for metric in arm] for arm in arms]
    points = tuple([float(point(metric, IMAGES)) for metric in arm] for arm in arms)
    return hierarchical_bootstrap(*resampled, points, seed=seed, draws=draws, level=level)


def arms(seeds, generator=None):
    generator = generator or np.random.default_rng(0)
    before = generator.normal(size=(seeds, IMAGES))
    return before + generator.normal(0.1, 1, size=(seeds, IMAGES)), before


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_one_seed_it_is_the_paired_bootstrap(level):
    after, before = arms(1)
    expected = paired_bootstrap(mean(after[0]), mean(before[0]), WEIGHTS, level=level)
    assert gain_of(after, before, level=level) == expected


def test_without_variance_of_the_images_it_is_the_bootstrap_over_seeds():
    differences = np.array([0.3, -0.1, 0.5, 0.9])
    values = np.repeat(differences[:, None], IMAGES, axis=1)
    gain = gain_of(values, np.zeros_like(values), draws=20_000)
    means = [np.mean(drawn) for drawn in product(differences, repeat=4)]
    assert gain.value == pytest.approx(0.4)
    assert (gain.low, gain.high) == pytest.approx(
        np.quantile(means, [0.025, 0.975], method="inverted_cdf"), abs=1e-6
    )
    below = np.mean(np.array(means) <= 1e-9)
    assert gain.p == pytest.approx(2 * below, abs=0.004)
    reference = stats.bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert (gain.low, gain.high) == pytest.approx(tuple(reference), abs=0.05)


def test_it_is_the_loop_that_its_docstring_describes():
    after, before = arms(3)
    generator = np.random.default_rng(7)
    chosen = generator.integers(3, size=(1000, 3))
    drawn = []
    for draw, seeds in enumerate(chosen):
        weights = WEIGHTS[draw % RESAMPLES]
        each = [
            np.average(after[s], weights=weights) - np.average(before[s], weights=weights)
            for s in seeds
        ]
        drawn.append(sum(each) / 3)
    gain = gain_of(after, before, seed=7, draws=1000)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    tail = min(sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn))
    assert gain.p == pytest.approx(2 * (1 + tail) / 1001)
    assert gain.value == pytest.approx((after - before).mean())


def test_exchanging_the_arms_mirrors_the_gain():
    after, before = arms(4)
    gain, mirrored = gain_of(after, before), gain_of(before, after)
    assert mirrored.value == pytest.approx(-gain.value)
    assert (mirrored.low, mirrored.high) == pytest.approx((-gain.high, -gain.low))
    assert mirrored.p == gain.p


def test_equal_arms_have_no_gain_and_no_evidence():
    same, _ = arms(3)
    assert gain_of(same, same) == Gain(0, 0, 0, 1)


def test_the_same_seed_draws_the_same_and_the_global_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global state is what this test is about
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    after, before = arms(3)
    assert gain_of(after, before, seed=1) == gain_of(after, before, seed=1)
    assert gain_of(after, before, seed=1) != gain_of(after, before, seed=2)
    assert np.random.random() == expected  # noqa: NPY002


def test_images_that_are_hard_in_every_seed_do_not_average_out():
    shared = np.random.default_rng(3).normal(size=IMAGES)
    values = np.tile(shared, (5, 1))
    five, one = (gain_of(v, np.zeros_like(v)) for v in (values, values[:1]))
    assert (five.low, five.high) == pytest.approx((one.low, one.high))


SPREADS = {"images": (0, 1, 0.1), "seeds": (1, 0, 0.1)}
"""Standard deviations of the seeds' own effect, the images' and their interaction."""


def simulated(kind, trials, seeds=5):
    """Gains of differences that are truly 0, by the bootstrap and by Student's t."""
    generator = np.random.default_rng(1)
    own, shared, both = SPREADS[kind]
    rows = WEIGHTS.T / IMAGES
    found = []
    for trial in range(trials):
        d = both * generator.normal(size=(seeds, IMAGES))
        d += own * generator.normal(size=(seeds, 1)) + shared * generator.normal(size=(1, IMAGES))
        gain = hierarchical_bootstrap(
            d @ rows, np.zeros((seeds, RESAMPLES)), (d.mean(axis=1), np.zeros(seeds)), seed=trial
        )
        found.append((gain, paired_over_seeds(d.mean(axis=1))))
    return found


def test_p_of_a_true_null_is_uniform_where_the_images_decide():
    p = [gain.p for gain, _ in simulated("images", 600)]
    assert stats.kstest(p, "uniform").statistic < 0.06
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.075


def test_five_seeds_that_decide_alone_are_covered_too_rarely_as_the_docstring_says():
    found = simulated("seeds", 600)
    covered = np.mean([gain.low <= 0 <= gain.high for gain, _ in found])
    by_t = np.mean([t.low <= 0 <= t.high for _, t in found])
    assert covered == pytest.approx(0.84, abs=0.04)
    assert by_t == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("kind", SPREADS)
def test_rejecting_where_both_reject_keeps_its_level(kind):
    wrong = np.mean([gain.p < 0.05 and t.p < 0.05 for gain, t in simulated(kind, 600)])
    assert wrong <= 0.075


def test_draws_in_which_a_metric_is_undefined_are_left_out():
    after = np.array([[1.0, np.nan, 3.0, 2.0]])
    gain = hierarchical_bootstrap(after, np.zeros((1, 4)), ([2.0], [0.0]), seed=0)
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile([1, 2, 3], [0.025, 0.975])))
    assert gain.p == pytest.approx(2 / 4)


def test_a_metric_that_is_undefined_in_a_seed_has_no_gain():
    values = np.ones((2, 3))
    assert hierarchical_bootstrap(values, values, ([1.0, np.nan], [1.0, 1.0]), seed=0) is None
    nothing = np.full((2, 3), np.nan)
    assert hierarchical_bootstrap(nothing, values, ([1.0, 1.0], [1.0, 1.0]), seed=0) is None


def test_values_on_resamples_do_not_depend_on_how_they_are_cut():
    values = np.random.default_rng(0).normal(size=6000)
    weights = resample_weights(6000, 200, seed=0)
    assert weights.size > 2 * 2**19
    np.testing.assert_allclose(
        on_resamples(mean(values), weights), weights @ values / 6000, rtol=1e-5
    )


def test_wrong_arguments_name_what_is_wrong():
    values = np.zeros((2, 3))
    with pytest.raises(InputError, match=r"points \(3,\): expected \[seed, resample\]"):
        hierarchical_bootstrap(values, values, (np.zeros(3), np.zeros(3)), seed=0)
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        hierarchical_bootstrap(values[0], values[0], (np.zeros(3), np.zeros(3)), seed=0)
    with pytest.raises(InputError, match="0 draws"):
        hierarchical_bootstrap(values, values, (np.zeros(2), np.zeros(2)), seed=0, draws=0)
    with pytest.raises(InputError, match="level 95"):
        hierarchical_bootstrap(values, values, (np.zeros(2), np.zeros(2)), seed=0, level=95)
