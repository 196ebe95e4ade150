"""BCa intervals and permutation tests are scipy's, resample by resample."""

import numpy as np
import pytest
from scipy import stats

from atcon.evaluation import (
    bca,
    f1,
    hierarchical_bca,
    jackknife,
    mean_average_precision,
    on_resamples,
    paired_bca,
    permutation_over_seeds,
    permutation_test,
    point,
    swaps,
    weighted_mean,
)
from atcon.evaluation.permutation import Swaps

SAMPLES = 60
PATIENTS = np.random.default_rng(6).integers(14, size=SAMPLES)


def answers(seed, classes=3):
    generator = np.random.default_rng(seed)
    labels = generator.random((SAMPLES, classes)) < 0.4
    return labels, labels ^ (generator.random(labels.shape) < 0.3), generator.random(labels.shape)


LABELS, FIRST, SCORES = answers(0)
SECOND = answers(1)[1] & FIRST
SKEWED = np.random.default_rng(2).exponential(size=SAMPLES)
ALL = np.ones(SAMPLES, dtype=bool)
METRICS = {
    "mean of a skewed value": weighted_mean(SKEWED, ALL),
    "ratio": weighted_mean(SKEWED, FIRST[:, 0]),
    "f1": f1(LABELS, FIRST),
    "map": mean_average_precision(LABELS, SCORES),
}


def counted(metric, units, unit):
    """The metric of drawn units `[..., draw]`, as scipy wants it; what was drawn is kept."""
    seen = []

    def statistic(drawn, axis=-1):
        rows = np.reshape(drawn, (-1, drawn.shape[-1]))
        counts = np.stack([np.bincount(row, minlength=units)[unit] for row in rows])
        seen.append(counts)
        return metric(counts).reshape(drawn.shape[:-1])

    return statistic, seen


def scipys(metric, groups, level):
    unit = np.arange(SAMPLES) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = unit.max() + 1
    statistic, seen = counted(metric, units, unit)
    found = stats.bootstrap(
        (np.arange(units),), statistic, vectorized=True, n_resamples=500, method="BCa",
        confidence_level=level, rng=np.random.default_rng(3),
    )  # fmt: skip
    weights = next(counts for counts in seen if len(counts) == 500)
    return weights, found.confidence_interval


@pytest.mark.parametrize("groups", [None, PATIENTS], ids=["images", "patients"])
@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("name", METRICS)
def test_bca_on_the_same_resamples_is_scipys(name, level, groups):
    weights, (low, high) = scipys(METRICS[name], groups, level)
    ours = bca(METRICS[name], weights, groups=groups, level=level)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)
    assert ours.value == pytest.approx(float(point(METRICS[name], SAMPLES)))


@pytest.mark.parametrize("groups", [None, PATIENTS], ids=["images", "patients"])
def test_paired_bca_on_the_same_resamples_is_scipys_of_the_difference(groups):
    after, before = METRICS["f1"], f1(LABELS, SECOND)
    weights, (low, high) = scipys(lambda w: after(w) - before(w), groups, 0.9)
    ours = paired_bca(after, before, weights, groups=groups, level=0.9)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-12)


def test_bca_over_seeds_and_images_is_scipys_of_two_samples():
    seeds, values = 6, np.random.default_rng(8).exponential(size=(6, SAMPLES))
    drawn = []

    def statistic(chosen, images, axis=-1):
        if chosen.ndim == images.ndim == 2 and len(chosen) == 400:
            drawn.append((chosen, images))
        return values[chosen[..., :, None], images[..., None, :]].mean(axis=(-2, -1))

    expected = stats.bootstrap(
        (np.arange(seeds), np.arange(SAMPLES)), statistic, vectorized=True, n_resamples=400,
        method="BCa", confidence_level=0.9, rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    chosen, images = drawn[0]
    weights = np.stack([np.bincount(row, minlength=SAMPLES) for row in images])
    metrics = [weighted_mean(row, ALL) for row in values]
    arms = (
        np.stack([on_resamples(metric, weights) for metric in metrics]),
        [float(point(metric, SAMPLES)) for metric in metrics],
        np.stack([jackknife(metric, SAMPLES) for metric in metrics]),
    )
    ours = hierarchical_bca(
        arms[0], np.zeros_like(arms[0]), (arms[1], np.zeros(seeds)),
        (arms[2], np.zeros_like(arms[2])), seed=_Given(chosen), level=0.9,
    )  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), rel=1e-9)


class _Given(np.random.Generator):
    """A generator that gives the seeds that scipy drew."""

    def __init__(self, chosen):
        super().__init__(np.random.PCG64(0))
        self.chosen = chosen

    def integers(self, *args, **kwargs):
        return self.chosen


def stacked(kind):
    both = np.vstack([LABELS, LABELS])
    if kind == "f1":
        return f1(both, np.vstack([FIRST, SECOND]))
    return mean_average_precision(both, np.vstack([SCORES, SCORES + 0.3 * LABELS]))


@pytest.mark.parametrize("kind", ["f1", "map"])
def test_a_permutation_test_on_the_same_swaps_is_scipys(kind):
    metric, seen = stacked(kind), []

    def statistic(new, old, axis=-1):
        rows = [np.reshape(side, (-1, SAMPLES)) for side in (new, old)]
        seen.append(rows[0] < SAMPLES)
        weights = [(np.eye(2 * SAMPLES)[side]).sum(axis=1) for side in rows]
        return (metric(weights[0]) - metric(weights[1])).reshape(new.shape[:-1])

    expected = stats.permutation_test(
        (np.arange(SAMPLES), np.arange(SAMPLES) + SAMPLES), statistic, vectorized=True,
        permutation_type="samples", n_resamples=300, rng=np.random.default_rng(3),
    )  # fmt: skip
    kept = next(rows for rows in seen if len(rows) == 300)
    ours = permutation_test(metric, Swaps(kept, exact=False))
    assert ours.value == pytest.approx(float(expected.statistic))
    assert ours.p == pytest.approx(float(expected.pvalue), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_all_swaps_of_few_images_give_scipys_exact_p(seed):
    generator = np.random.default_rng(seed)
    new, old = generator.normal(0.5, 1, size=8).round(1), generator.normal(size=8).round(1)
    expected = stats.permutation_test(
        (new, old), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="samples", n_resamples=1000,
    )  # fmt: skip
    metric = weighted_mean(np.concatenate([new, old]), np.ones(16, dtype=bool))
    ours = permutation_test(metric, swaps(8, 1000, seed=0))
    assert ours.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert permutation_over_seeds(new - old, 1000, seed=0).p == pytest.approx(expected.pvalue)


def test_swapping_patients_is_scipys_test_of_their_sums():
    generator = np.random.default_rng(5)
    new, old = generator.normal(0.3, 1, size=SAMPLES), generator.normal(size=SAMPLES)
    sums = [np.bincount(PATIENTS, side) for side in (new, old)]
    expected = stats.permutation_test(
        tuple(sums), lambda x, y, axis: x.sum(axis=axis) - y.sum(axis=axis),
        permutation_type="samples", n_resamples=2**14,
    )  # fmt: skip
    metric = weighted_mean(np.concatenate([new, old]), np.ones(2 * SAMPLES, dtype=bool))
    exchanged = swaps(SAMPLES, 2**14, seed=0, groups=PATIENTS)
    assert exchanged.exact
    assert permutation_test(metric, exchanged).p == pytest.approx(expected.pvalue, rel=1e-12)
