"""The power that is promised is the power that experiments have."""

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    Components,
    components,
    f1,
    hierarchical_bootstrap,
    needed_seeds,
    needed_units,
    on_resamples,
    paired_over_seeds,
    point,
    power,
    resample_weights,
)

RESAMPLES = 400
CASES = {  # variances of seeds, image, and image in one seed; gain; seeds; images
    "seeds decide": (Components(1.0, 0.5, 0.5), 1.3, 6, 100),
    "images decide": (Components(0.01, 90.0, 5.0), 2.4, 4, 100),
    "both alike": (Components(1.0, 12.5, 5.0), 1.4, 8, 100),
    "every seed meets every image anew": (Components(0.05, 1.0, 300.0), 1.9, 6, 100),
    "ten percent": (Components(1.0, 10.0, 5.0), 0.5, 5, 100),
}


def experiments(parts, gain, seeds, images, trials, seed=0):
    """Differences `[seed, image]` of one experiment after the other."""
    generator = np.random.default_rng(seed)
    for _ in range(trials):
        d = gain + np.sqrt(parts.seeds) * generator.normal(size=(seeds, 1))
        d = d + np.sqrt(parts.shared) * generator.normal(size=(1, images))
        yield d + np.sqrt(parts.own) * generator.normal(size=(seeds, images))


def is_clear(resampled, points, seed):
    zeros = np.zeros_like(resampled)
    gain = hierarchical_bootstrap(resampled, zeros, (points, zeros[:, 0]), seed=seed)
    return gain.value > 0 and max(gain.p, paired_over_seeds(points).p) < 0.05


@pytest.mark.parametrize("case", CASES)
def test_the_power_that_is_promised_is_the_power_had(case):
    parts, gain, seeds, images = CASES[case]
    rows = resample_weights(images, RESAMPLES, seed=1).T / images
    had = [
        is_clear(d @ rows, d.mean(axis=1), trial)
        for trial, d in enumerate(experiments(parts, gain, seeds, images, 1000))
    ]
    promised = power(parts, gain, seeds=seeds, units=images)
    assert 0.05 < promised < 0.95
    assert np.mean(had) == pytest.approx(promised, abs=0.04)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"every seed meets every image anew"}))
def test_a_pilot_shows_the_parts_of_the_variance_without_bias(case):
    parts, gain, _, images = CASES[case]
    rows = resample_weights(images, RESAMPLES, seed=1).T / images
    found = [
        components(d @ rows, d.mean(axis=1), units=images)
        for d in experiments(parts, gain, 8, images, 300)
    ]
    total = parts.seeds + (parts.shared + parts.own) / images
    for name, scale in (("seeds", 1), ("shared", images), ("own", images)):
        mean = np.mean([getattr(one, name) for one in found])
        assert mean / scale == pytest.approx(getattr(parts, name) / scale, abs=0.08 * total)


def test_a_variance_is_not_below_zero_so_seeds_that_hardly_differ_seem_to_differ_more():
    parts, images = Components(0.05, 1.0, 300.0), 100
    rows = resample_weights(images, RESAMPLES, seed=1).T / images
    found = [
        components(d @ rows, d.mean(axis=1), units=images).seeds
        for d in experiments(parts, 0.0, 8, images, 300)
    ]
    assert min(found) == 0
    assert parts.seeds < np.mean(found) < parts.own / images


def answered(generator, images, lifts, seeds):
    """F1 of both methods for every seed: seeds differ, and images are hard for all."""
    labels = generator.random((images, 3)) < 0.4
    hard = generator.normal(size=labels.shape)
    metrics = []
    for lift in lifts:
        better = lift + 0.25 * generator.normal(size=seeds)
        scores = (2 * labels - 1) * better[:, None, None] + hard
        scores = scores + 0.5 * generator.normal(size=scores.shape)
        metrics.append([f1(labels, one > 0) for one in scores])
    return metrics


def measured(metrics, images, weights):
    resampled = [np.stack([on_resamples(m, weights) for m in one]) for one in metrics]
    points = [np.array([float(point(m, images)) for m in one]) for one in metrics]
    return resampled[0] - resampled[1], points[0] - points[1]


@pytest.mark.slow
def test_a_pilot_in_f1_promises_what_larger_experiments_then_have():
    generator, lifts = np.random.default_rng(3), (1.25, 0.95)
    weights = resample_weights(150, RESAMPLES, seed=2)
    pilots = []
    for _ in range(30):
        resampled, points = measured(answered(generator, 150, lifts, 6), 150, weights)
        pilots.append(components(resampled, points, units=150))
    parts = Components(
        *(float(np.mean([getattr(p, n) for p in pilots])) for n in ("seeds", "shared", "own"))
    )
    wide = measured(answered(generator, 2000, lifts, 1000), 2000, np.ones((1, 2000)))[1]
    promised = power(parts, float(wide.mean()), seeds=8, units=300)
    weights = resample_weights(300, RESAMPLES, seed=3)
    had = [
        is_clear(*measured(answered(generator, 300, lifts, 8), 300, weights), trial)
        for trial in range(400)
    ]
    assert 0.3 < promised < 0.95
    assert np.mean(had) == pytest.approx(promised, abs=0.08)


def test_power_rises_with_gain_seeds_and_images_and_is_the_same_both_ways():
    parts = Components(1.0, 50.0, 20.0)
    by_gain = [power(parts, gain, seeds=5, units=100) for gain in (0.5, 1, 2, 4)]
    by_seeds = [power(parts, 1.5, seeds=seeds, units=100) for seeds in (2, 3, 5, 10)]
    by_units = [power(parts, 1.5, seeds=5, units=units) for units in (20, 100, 500)]
    for found in (by_gain, by_seeds, by_units):
        assert found == sorted(found)
        assert found[0] < found[-1]
    assert power(parts, -1.5, seeds=5, units=100) == pytest.approx(by_seeds[2], abs=0.02)


def test_without_a_gain_hardly_anything_is_found():
    assert power(Components(1.0, 50.0, 20.0), 1e-9, seeds=5, units=100) < 0.03


def test_what_is_needed_is_the_smallest_that_is_enough():
    parts = Components(1.0, 50.0, 20.0)
    seeds = needed_seeds(parts, 1.5, units=200)
    assert power(parts, 1.5, seeds=seeds, units=200) >= 0.8
    assert power(parts, 1.5, seeds=seeds - 1, units=200) < 0.8
    units = needed_units(parts, 1.5, seeds=8)
    assert power(parts, 1.5, seeds=8, units=units) >= 0.8
    assert power(parts, 1.5, seeds=8, units=units - 1) < 0.8


def test_more_images_cannot_make_up_for_too_few_seeds_nor_seeds_for_images():
    assert needed_units(Components(1.0, 1.0, 1.0), 0.3, seeds=5) is None
    assert needed_seeds(Components(0.1, 1000.0, 1.0), 1.0, units=50) is None


@pytest.mark.parametrize(
    ("differences", "points", "units"),
    [
        (np.zeros((1, 5)), np.zeros(1), 9),
        (np.zeros((3, 5)), np.zeros(2), 9),
        (np.full((3, 5), np.nan), np.zeros(3), 9),
        (np.zeros((3, 5)), np.zeros(3), 1),
        (np.zeros((3, 5)), np.array([0, 0, np.nan]), 9),
    ],
)
def test_a_pilot_that_shows_no_variance_is_refused(differences, points, units):
    with pytest.raises(InputError, match="seed"):
        components(differences, points, units=units)


def test_one_seed_and_a_level_that_is_none_are_refused():
    with pytest.raises(InputError, match="two or more"):
        power(Components(1, 1, 1), 1, seeds=1, units=10)
    with pytest.raises(InputError, match="coverage"):
        power(Components(1, 1, 1), 1, seeds=3, units=10, alpha=1.5)
