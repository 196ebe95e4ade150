"""Holm's correction and the test over seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atcon.errors import InputError
from atcon.evaluation import Gain, holm, paired_over_seeds

P_VALUES = st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.05, 1.0]), max_size=8)


def rejected_by_step_down(p_values, level):
    """Holm's procedure as he states it: compare the smallest p with level / m, remove it, go on."""
    remaining = dict(enumerate(p_values))
    rejected = set()
    while remaining:
        smallest = min(remaining, key=remaining.get)
        if remaining[smallest] * len(remaining) > level:
            break
        rejected.add(smallest)
        del remaining[smallest]
    return rejected


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_adjusted_p_values_reject_what_the_step_down_procedure_rejects(p_values, level):
    adjusted = holm(p_values)
    assert set(np.flatnonzero(adjusted <= level)) == rejected_by_step_down(p_values, level)


@given(P_VALUES)
def test_adjusting_never_lowers_nor_reorders_and_stays_below_bonferroni(p_values):
    p, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.4, 0.4, 0.4], [1, 1, 1]),
    ],
)
def test_adjusted_p_values_of_worked_examples(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize("p_values", [[0.1, 1.2], [-0.1], [np.nan]])
def test_what_is_no_probability_is_refused(p_values):
    with pytest.raises(InputError, match="numbers in \\[0, 1\\]"):
        holm(p_values)


def test_the_gain_over_seeds_of_a_worked_example():
    gain = paired_over_seeds([1.0, 2.0, 3.0])
    margin = 4.302653 / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert (gain.value, gain.low, gain.high) == pytest.approx((2, 2 - margin, 2 + margin), abs=1e-5)
    assert gain.p == pytest.approx(0.0741799, abs=1e-6)


def test_exchanging_before_and_after_mirrors_the_gain():
    gain, mirrored = paired_over_seeds([1.0, 2.0, 4.0]), paired_over_seeds([-1.0, -2.0, -4.0])
    assert mirrored == Gain(-gain.value, -gain.high, -gain.low, gain.p)


def test_the_interval_excludes_zero_exactly_if_p_is_below_its_level():
    generator = np.random.default_rng(0)
    gains = [paired_over_seeds(generator.normal(0.6, 1, 5), level=0.9) for _ in range(200)]
    significant = [gain.p < 0.1 for gain in gains]
    assert significant == [gain.low > 0 or gain.high < 0 for gain in gains]
    assert 20 < sum(significant) < 180


def test_seeds_that_agree_exactly_have_an_interval_without_width():
    assert paired_over_seeds([0.0, 0.0, 0.0]) == Gain(0, 0, 0, 1)
    assert paired_over_seeds([0.5, 0.5, 0.5]) == Gain(0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, np.nan]])
def test_a_test_over_seeds_needs_two_finite_differences(differences):
    with pytest.raises(InputError, match="two or more finite differences"):
        paired_over_seeds(differences)


def test_a_level_that_is_no_fraction_is_refused():
    with pytest.raises(InputError, match="level 95"):
        paired_over_seeds([1.0, 2.0], level=95)
