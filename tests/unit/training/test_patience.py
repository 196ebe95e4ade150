import math

import pytest

from atcon.errors import InputError
from atcon.training.patience import Patience, validations_since_best

NAN = math.nan
HISTORIES = {
    "nothing": ([], 0),
    "the start": ([5.0], 0),
    "rising": ([1.0, 2.0, 3.0], 0),
    "falling": ([3.0, 2.0, 1.0], 2),
    "back to the best": ([3.0, 1.0, 3.0], 2),
    "ties": ([3.0, 3.0, 3.0], 2),
    "a new best": ([3.0, 1.0, 3.5, 3.0], 1),
    "better than the last only": ([3.0, 1.0, 2.0, 2.5], 3),
    "not a number": ([3.0, NAN, NAN], 2),
    "a number at last": ([NAN, NAN, 0.0], 0),
    "never a number": ([NAN, NAN, NAN], 3),
    "negative": ([-3.0, -2.0, -4.0], 1),
    "minus infinity": ([-math.inf, -math.inf], 2),
}


def by_the_definition(values):
    """Count from the first place of the largest value."""
    numbers = [value for value in values if value > -math.inf]
    return len(values) - 1 - values.index(max(numbers)) if numbers else len(values)


@pytest.mark.parametrize("name", HISTORIES)
def test_what_counts_is_the_time_since_the_best(name):
    values, waited = HISTORIES[name]
    assert validations_since_best(values) == waited == by_the_definition(values)


def test_it_stops_when_patience_validations_brought_nothing():
    patience = Patience(3, "map")
    values = [50, 60, 55, 60, NAN, 70]
    history = [{"map": value, "f1": step} for step, value in enumerate(values)]
    stops = [patience.stops(history[:count]) for count in range(len(values) + 1)]
    assert stops == [False, False, False, False, False, True, False]


def test_the_metric_is_the_one_named():
    history = [{"map": 1.0, "f1": 3.0}, {"map": 2.0, "f1": 2.0}]
    assert Patience(1, "f1").stops(history)
    assert not Patience(1, "map").stops(history)


def test_a_resumed_rule_says_what_an_uninterrupted_one_says():
    values = [1.0, 3.0, 2.0, 3.0, 2.5, 2.0]
    history = [{"map": value} for value in values]
    kept = Patience(2, "map")
    for count in range(len(history) + 1):
        assert Patience(2, "map").stops(history[:count]) == kept.stops(history[:count])
    assert kept.stops(history)


def test_wrong_choices_are_refused():
    with pytest.raises(InputError, match="1 or larger, but it is 0"):
        Patience(0, "map")
    with pytest.raises(InputError, match="waits for 'map', but a validation gave f1, loss"):
        Patience(1, "map").stops([{"f1": 1.0, "loss": 2.0}])
