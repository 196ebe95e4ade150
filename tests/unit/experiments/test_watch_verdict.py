import numpy as np
import pytest

from atcon.evaluation import resample_weights, shift
from atcon.experiments.watch_verdict import (
    ALIKE,
    MORE,
    SPREAD,
    TOO_FEW,
    WARNING,
    errors_record,
    outcome_of,
    verdict_record,
)


def numbers(seed, count, mean=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(mean, spread, count)


def outcome(own, new, groups=(None, None)):
    grouped = any(one is not None for one in groups)
    return outcome_of(shift(own, new, groups=groups), grouped=grouped, level=0.95)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (numbers(1, 150), ALIKE),
        (numbers(2, 150, -1), WARNING),
        (numbers(3, 150, 1), MORE),
        (numbers(4, 150, 0, 4), SPREAD),
        (numbers(5, 12), TOO_FEW),
        (numbers(6, 1, -9), TOO_FEW),
        (np.zeros(3), TOO_FEW),
    ],
)
def test_the_outcome_is_what_the_numbers_are(new, expected):
    found = shift(numbers(0, 150), new)
    assert outcome_of(found, grouped=False, level=0.95) == expected
    said = verdict_record(found, "validation", unit="images", grouped=False, level=0.95)
    assert said["sentence"].startswith("Warning: ") is (expected == WARNING)


def test_without_a_difference_at_most_one_in_thirty_is_a_warning():
    random = np.random.default_rng(0)
    found = [
        outcome_of(
            shift(random.normal(size=own), random.normal(size=new), resamples=200),
            grouped=False,
            level=0.95,
        )
        for own, new in ((20, 10), (150, 10), (60, 60), (150, 200))
        for _ in range(150)
    ]
    assert found.count(WARNING) / len(found) < 1 / 30


def test_constant_scores_are_alike_and_few_patients_say_nothing():
    assert outcome(np.ones(60), np.ones(60)) == ALIKE
    patients = np.repeat(np.arange(4), 25)
    assert outcome(numbers(0, 150), numbers(1, 100, -3), (None, patients)) == TOO_FEW


def errors(wrong, consistency, confidence):
    weights = resample_weights(len(wrong), 400, seed=0)
    return errors_record(wrong, consistency, confidence, weights, level=0.95)


@pytest.mark.parametrize("wrong", [np.zeros(20, bool), np.ones(20, bool)])
def test_without_an_error_or_a_right_answer_the_auroc_is_not_defined(wrong):
    record = errors(wrong, numbers(0, 20), numbers(1, 20))
    assert record["undefined"].endswith("wrong: nothing to tell apart")
    assert "score" not in record


def test_a_score_that_knows_more_than_the_probability_is_said_to_add():
    random = np.random.default_rng(0)
    wrong = random.random(200) < 0.4
    record = errors(wrong, random.normal(-1.5 * wrong), random.normal(-1.0 * wrong))
    assert record["added"]["low"] > 0
    assert "adds to what the probability says" in record["sentence"]
    assert record["score"]["low"] > 0.5


def test_a_score_of_noise_is_said_to_add_nothing_or_to_harm():
    random = np.random.default_rng(1)
    wrong = random.random(300) < 0.4
    record = errors(wrong, random.normal(size=300), random.normal(-1.5 * wrong))
    assert "does not measurably tell" in record["sentence"]
    assert record["added"]["high"] < 0
    assert record["difference"]["high"] < 0


def test_a_handful_of_errors_is_called_too_few():
    wrong = np.arange(40) < 3
    assert "Only 3 answers" in errors(wrong, -1.0 * wrong, numbers(0, 40))["sentence"]
