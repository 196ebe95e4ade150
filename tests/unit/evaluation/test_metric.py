"""What every metric of the package has in common, over the whole table."""

import subprocess
import sys

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    average_precision,
    f1,
    f1_per_class,
    mean_average_precision,
    point,
    resample_weights,
    weighted_mean,
)

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.random((30, 4)) < 0.4
SCORES = np.round(GENERATOR.random((30, 4)), 1)

METRICS = {
    "f1": lambda rows: f1(LABELS[rows], SCORES[rows] > 0.5),
    "f1_per_class": lambda rows: f1_per_class(LABELS[rows], SCORES[rows] > 0.5),
    "average_precision": lambda rows: average_precision(LABELS[rows], SCORES[rows]),
    "map": lambda rows: mean_average_precision(LABELS[rows], SCORES[rows]),
    "map_weighted": lambda rows: mean_average_precision(
        LABELS[rows], SCORES[rows], average="weighted"
    ),
    "weighted_mean": lambda rows: weighted_mean(SCORES[rows, 0], LABELS[rows, 0]),
}
EVERY = pytest.mark.parametrize("build", METRICS.values(), ids=METRICS)
ALL = np.arange(30)


@EVERY
def test_a_weight_is_a_number_of_copies(build):
    for row in resample_weights(30, 5, seed=1):
        copies = build(np.repeat(ALL, row.astype(int)))
        np.testing.assert_allclose(build(ALL)(row[None])[0], point(copies, 30), rtol=1e-12)


@EVERY
def test_rows_do_not_influence_each_other(build):
    weights = resample_weights(30, 7, seed=2)
    together = build(ALL)(weights)
    np.testing.assert_allclose(together[3:4], build(ALL)(weights[3:4]), rtol=1e-12)


@EVERY
def test_the_order_of_the_samples_does_not_matter(build):
    order = np.random.default_rng(3).permutation(30)
    weights = resample_weights(30, 5, seed=4)
    np.testing.assert_allclose(build(order)(weights[:, order]), build(ALL)(weights), rtol=1e-12)


@EVERY
def test_only_the_ratio_of_weights_matters(build):
    weights = resample_weights(30, 5, seed=5)
    np.testing.assert_allclose(build(ALL)(0.1 * weights), build(ALL)(weights), rtol=1e-6)


@EVERY
def test_values_stay_within_zero_and_one_and_are_not_all_alike(build):
    values = build(ALL)(resample_weights(30, 50, seed=6))
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0.01


@EVERY
def test_weights_of_another_number_of_samples_are_refused(build):
    with pytest.raises(InputError, match="expected \\[resamples, 30\\]"):
        build(ALL)(np.ones((2, 31)))


@EVERY
def test_the_weights_are_left_as_they_were(build):
    weights = resample_weights(30, 5, seed=7)
    before = weights.copy()
    build(ALL)(weights)
    np.testing.assert_array_equal(weights, before)


def test_weighted_mean_of_a_worked_example():
    metric = weighted_mean([1.0, np.nan, 4.0], [True, False, True])
    values = metric(np.array([[1.0, 1, 1], [3, 9, 1], [0, 5, 0]]))
    np.testing.assert_allclose(values, [2.5, 1.75, np.nan])


def test_a_valid_value_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="sample 1 is valid, but its value is nan"):
        weighted_mean([1.0, np.nan], [True, True])


def test_one_mark_per_value_is_required():
    with pytest.raises(InputError, match="one of each a sample"):
        weighted_mean([1.0, 2.0], [True])


def test_importing_the_package_does_not_load_torch():
    code = "import sys, atcon.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
