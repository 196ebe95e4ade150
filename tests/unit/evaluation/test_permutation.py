"""Methods exchange their answers: image by image, patient by patient, run by run."""

from itertools import product

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    Difference,
    f1,
    permutation_over_seeds,
    permutation_test,
    reference_test,
    swaps,
    weighted_mean,
)

SAMPLES = 30


def mean_of_both(new, old):
    values = np.concatenate([new, old])
    return weighted_mean(values, np.ones(len(values), dtype=bool))


def answers(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((SAMPLES, 4)) < 0.4
    return labels, *(labels ^ (generator.random(labels.shape) < wrong) for wrong in (0.1, 0.3))


def test_few_samples_are_exchanged_in_every_way_once():
    every = swaps(4, 16, seed=0)
    assert every.exact
    assert set(map(tuple, every.kept.tolist())) == set(product([True, False], repeat=4))
    assert len(every.kept) == 16
    drawn = swaps(5, 31, seed=0)
    assert not drawn.exact
    assert drawn.kept.shape == (31, 5)


def test_each_sample_is_exchanged_half_of_the_time_and_alone():
    kept = swaps(20, 20_000, seed=1).kept
    np.testing.assert_allclose(kept.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(kept.T), np.eye(20), atol=0.035)


def test_a_patients_images_are_exchanged_together():
    groups = ["b", "a", "b", "c", "a"]
    exchanged = swaps(5, 8, seed=0, groups=groups)
    assert exchanged.exact
    assert len(set(map(tuple, exchanged.kept.tolist()))) == 8
    for name in "abc":
        own = exchanged.kept[:, np.array(groups) == name]
        assert (own == own[:, :1]).all()


def test_the_test_of_a_metric_is_the_loop_that_exchanges_predictions():
    labels, new, old = answers(0)
    exchanged = swaps(SAMPLES, 200, seed=2)
    ours = permutation_test(f1(np.vstack([labels, labels]), np.vstack([new, old])), exchanged)
    one = np.ones((1, SAMPLES))

    def gain(first, second):
        return float((f1(labels, first)(one) - f1(labels, second)(one))[0])

    permuted = [
        gain(np.where(kept[:, None], new, old), np.where(kept[:, None], old, new))
        for kept in exchanged.kept
    ]
    value = gain(new, old)
    above = sum(d >= value - 1e-12 for d in permuted)
    below = sum(d <= value + 1e-12 for d in permuted)
    assert ours.value == pytest.approx(value)
    assert ours.p == pytest.approx(min(1, 2 * (1 + min(above, below)) / 201))


@pytest.mark.parametrize("chunk", [1, 700, 10**9])
def test_the_result_does_not_depend_on_how_many_weights_are_made_at_once(chunk, monkeypatch):
    labels, new, old = answers(1)
    metric = f1(np.vstack([labels, labels]), np.vstack([new, old]))
    expected = permutation_test(metric, swaps(SAMPLES, 50, seed=0))
    monkeypatch.setattr("atcon.evaluation.permutation.CHUNK", chunk)
    assert permutation_test(metric, swaps(SAMPLES, 50, seed=0)) == expected


def test_only_true_positives_of_each_method_count_where_a_metric_says_so():
    values = np.array([1.0, 2.0, 3.0, 5.0])
    valid = np.array([True, False, True, True])  # two images: of the new method only the first
    found = permutation_test(weighted_mean(values, valid), swaps(2, 4, seed=0))
    # kept, kept: 1 - 4; the second exchanged: mean(1, 5) - 3; and the mirrored ones
    assert found == Difference(-3.0, 2 * 1 / 4)


def test_equal_methods_have_no_evidence_and_exchanging_them_mirrors_the_value():
    generator = np.random.default_rng(3)
    new, old = generator.normal(size=(2, SAMPLES))
    exchanged = swaps(SAMPLES, 500, seed=0)
    assert permutation_test(mean_of_both(new, new), exchanged) == Difference(0, 1)
    one, other = (
        permutation_test(mean_of_both(*pair), exchanged) for pair in ((new, old), (old, new))
    )
    assert other.value == pytest.approx(-one.value)
    assert other.p == pytest.approx(one.p)


def test_over_several_seeds_the_mean_is_tested_and_an_image_is_exchanged_in_all_of_them():
    generator = np.random.default_rng(4)
    new, old = generator.normal(size=(2, 3, SAMPLES))
    exchanged = swaps(SAMPLES, 300, seed=0)
    each = [mean_of_both(*pair) for pair in zip(new, old, strict=True)]
    expected = permutation_test(mean_of_both(new.mean(axis=0), old.mean(axis=0)), exchanged)
    found = permutation_test(each, exchanged)
    assert found.value == pytest.approx(expected.value)
    assert found.p == expected.p


def test_over_seeds_whole_runs_are_exchanged():
    found = permutation_over_seeds([1.0, 2.0, 4.0], seed=0)
    assert found == Difference(pytest.approx(7 / 3), 2 * 1 / 8)
    assert permutation_over_seeds([1.0] * 5, seed=0).p == 0.0625
    assert permutation_over_seeds([0.0, 0.0], seed=0) == Difference(0, 1)


def test_a_metric_that_is_not_defined_has_no_test():
    nowhere = weighted_mean(np.zeros(8), np.zeros(8, dtype=bool))
    assert permutation_test(nowhere, swaps(4, 16, seed=0)) is None
    assert reference_test(nowhere, 4, seed=0) is None


def test_nothing_to_exchange_is_refused():
    with pytest.raises(InputError, match="0 samples"):
        swaps(0, seed=0)
    with pytest.raises(InputError, match="one name a sample"):
        swaps(3, seed=0, groups=["a"])
    with pytest.raises(InputError, match="finite"):
        permutation_over_seeds([1.0, np.nan], seed=0)
    with pytest.raises(InputError, match="0 runs"):
        reference_test(mean_of_both([1.0], [2.0]), 1, seed=0, runs=0)


def test_the_reference_draws_both_methods_from_one_pool():
    generator = np.random.default_rng(5)
    new, old = generator.normal(1, 1, size=60), generator.normal(0, 1, size=60)
    found = reference_test(mean_of_both(new, old), 60, seed=0, runs=4000)
    pool = np.concatenate([new, old])
    drawn = pool[generator.integers(120, size=(4000, 2, 60))].mean(axis=2)
    expected = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    spread = 1.96 * pool.std() * np.sqrt(2 / 60)
    assert expected == pytest.approx([-spread, spread], rel=0.1)
    assert found.value == pytest.approx(new.mean() - old.mean())
    assert found.p == 2 / 4001
    assert reference_test(mean_of_both(new, old), 60, seed=0).p == pytest.approx(2 / 101)


def null_p_values(agreement, trials=300, images=60):
    """p-values of equal methods whose answers share a part of what makes an image hard."""
    generator, exchanged = np.random.default_rng(6), swaps(images, 200, seed=0)
    found = []
    for trial in range(trials):
        hard = np.sqrt(agreement) * generator.normal(size=images)
        own = np.sqrt(1 - agreement) * generator.normal(size=(2, images))
        metric = mean_of_both(*(hard + own))
        reference = reference_test(metric, images, seed=trial)
        found.append((permutation_test(metric, exchanged).p, reference.p))
    return np.array(found).T


def test_the_reference_finds_almost_nothing_where_methods_agree_and_the_paired_test_does():
    paired, reference = null_p_values(0.8)
    assert (reference < 0.05).mean() < 0.005
    assert (paired < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_the_reference_keeps_its_level_where_answers_have_nothing_in_common():
    _, reference = null_p_values(0.0)
    assert (reference < 0.05).mean() == pytest.approx(0.05, abs=0.03)
