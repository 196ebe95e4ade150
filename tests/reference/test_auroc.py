"""AUROC equals scikit-learn with sample weights, ties included, and the shift equals scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtri
from scipy.stats import ks_2samp, mannwhitneyu
from sklearn.metrics import roc_auc_score

from atcon.errors import InputError
from atcon.evaluation import auroc, resample_weights, shift, smallest_shift

SCORES = {"tied": st.sampled_from([-1.0, 0.0, 0.25, 0.5]), "free": st.floats(-1, 1)}


@st.composite
def tasks(draw, kind):
    count = draw(st.integers(1, 20))
    positive = draw(hnp.arrays(bool, count))
    scores = draw(hnp.arrays(float, count, elements=SCORES[kind]))
    weights = resample_weights(count, 5, seed=draw(st.integers(0, 99)))
    return positive, scores, np.vstack([np.ones((1, count)), weights])


@pytest.mark.parametrize("kind", SCORES)
def test_auroc_equals_scikit_learn_on_every_resample(kind):
    @given(tasks(kind))
    @settings(max_examples=100, deadline=None)
    def check(task):
        positive, scores, weights = task
        expected = [
            roc_auc_score(positive, scores, sample_weight=row)
            if row[positive].sum() > 0 and row[~positive].sum() > 0
            else np.nan
            for row in weights
        ]
        np.testing.assert_allclose(auroc(positive, scores)(weights), expected, atol=1e-12)

    check()


def test_a_score_that_is_no_number_is_refused_by_its_place():
    with pytest.raises(InputError, match="sample 1: the score is NaN"):
        auroc([True, False], [0.1, np.nan])


@pytest.mark.parametrize("digits", [1, 8])
def test_a_shift_has_the_tests_of_scipy_and_their_effect(digits):
    random = np.random.default_rng(0)
    own = random.normal(0.7, 0.2, 90).round(digits)
    new = random.normal(0.6, 0.2, 60).round(digits)
    found = shift(own, new)
    ranks, apart = mannwhitneyu(own, new), ks_2samp(own, new)
    assert found.lower == pytest.approx(ranks.statistic / (90 * 60), abs=1e-12)
    assert found.rank_p == pytest.approx(ranks.pvalue, rel=1e-9)
    assert (found.distance, found.distance_p) == pytest.approx((apart.statistic, apart.pvalue))
    assert found.interval.low < found.lower < found.interval.high
    assert found.units == (90, 60)


def test_the_smallest_shift_is_seen_in_four_of_five_cases():
    random = np.random.default_rng(1)
    least = smallest_shift(80, 60)
    # of normal numbers P(new < own) = Phi(d / sqrt 2)
    distance = np.sqrt(2) * ndtri(least)
    seen = [
        mannwhitneyu(random.normal(distance, 1, 80), random.normal(0, 1, 60)).pvalue < 0.05
        for _ in range(1000)
    ]
    assert 0.75 < np.mean(seen) < 0.86
    assert smallest_shift(1, 1) is None


def test_whole_groups_are_resampled_and_one_alone_has_no_interval():
    random = np.random.default_rng(2)
    own = random.normal(0, 1, 100)
    patients = np.repeat(np.arange(10), 10)
    new = np.repeat(random.normal(0, 1, 10), 10)
    alone = shift(own, new).interval
    grouped = shift(own, new, groups=(None, patients)).interval
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert shift(own, new, groups=(None, np.zeros(100))).interval is None
    assert shift(own, new[:1]).interval is None
