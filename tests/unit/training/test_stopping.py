import inspect
import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.training.signals import SIGNALS
from atcon.training.stopping import STOPPING_RULES, Decision, rule_named

EVERY = pytest.mark.parametrize("name", STOPPING_RULES)
NAN = math.nan


def curve(signal: str, *values: float | None) -> list[dict[str, float | None]]:
    return [{signal: value} for value in values]


def random_history(seed: int, epochs: int = 14) -> list[dict[str, float | None]]:
    """A plausible fine-tuning with noise; here and there a signal is unknown."""
    random = np.random.default_rng(seed)
    grown = np.cumsum(random.uniform(0, 0.003 * random.integers(1, 4), epochs))
    rows: list[dict[str, float | None]] = []
    for epoch in range(epochs):
        noise = random.normal(0, 0.01, 6)
        row: dict[str, float | None] = {
            "drift": grown[epoch] - grown[0],
            "flips": 2 * (grown[epoch] - grown[0]),
            "map_stability": 1 - abs(noise[0]) / (1 + epoch),
            "map_fidelity": 1 - 5 * grown[epoch],
            "view_agreement": 0.9 + noise[2],
            "calibration_gap": noise[3],
            "consistency": 1 - 0.5 ** (1 + epoch) - 0.01 * epoch + noise[4],
        }
        for signal in list(row):
            if random.random() < 0.04:
                row[signal] = [NAN, None][random.integers(2)]
            elif random.random() < 0.02:
                del row[signal]
        rows.append(row)
    return rows


HISTORIES = [random_history(seed) for seed in range(60)]


@EVERY
def test_what_was_decided_is_not_changed_by_what_comes_later(name):
    rule, stops = STOPPING_RULES[name], 0
    for history in HISTORIES:
        seen = [rule(history[:k]) for k in range(1, len(history) + 1)]
        ended = [decision for decision in seen if decision.stop]
        assert ended == ended[:1] * len(ended)
        assert seen[len(seen) - len(ended) :] == ended
        stops += bool(ended)
    assert stops == 0 if name == "last" else stops > len(HISTORIES) / 3


@EVERY
def test_an_end_of_any_kind_after_a_stop_is_ignored(name):
    rule = STOPPING_RULES[name]
    for history in HISTORIES:
        ended = next((k for k in range(1, 15) if rule(history[:k]).stop), None)
        if ended is not None:
            future = [dict.fromkeys(SIGNALS, 1e9), {}, curve("drift", NAN)[0]]
            assert rule(history[:ended] + future) == rule(history[:ended])


@EVERY
def test_a_loop_needs_one_copy_of_the_weights(name):
    for history in HISTORIES:
        kept = [STOPPING_RULES[name](history[:k]).epoch for k in range(1, len(history) + 1)]
        assert kept[0] == 0
        assert all(now in (before, k) for k, (before, now) in enumerate(pairwise(kept), 1))


class Watched(Mapping):
    """Says which signals were read."""

    def __init__(self, values, read: set[str]) -> None:
        self.values_, self.read = values, read

    def __getitem__(self, key):
        self.read.add(key)
        return self.values_[key]

    def __iter__(self):
        raise AssertionError("a rule looks its signals up by name")

    def __len__(self):
        return len(self.values_)


@EVERY
def test_no_rule_reads_anything_but_signals(name):
    read: set[str] = set()
    for history in HISTORIES:
        STOPPING_RULES[name]([Watched({**row, "validation": 1.0}, read) for row in history])
    assert read <= set(SIGNALS)
    assert bool(read) == (name not in ("last", "start", "fixed"))


@EVERY
def test_the_start_alone_is_kept(name):
    assert STOPPING_RULES[name]([{}]).epoch == 0
    assert STOPPING_RULES[name]([dict.fromkeys(SIGNALS, 0.5)]).epoch == 0
    with pytest.raises(InputError, match="history is empty"):
        STOPPING_RULES[name]([])


@EVERY
@pytest.mark.parametrize("unknown", [NAN, None, math.inf])
def test_unknown_signals_keep_the_start_unless_none_are_read(name, unknown):
    history = [dict.fromkeys(SIGNALS, unknown)] * 10
    blind = {"last": 9, "fixed": 3}
    plain = STOPPING_RULES[name](history)
    assert plain.epoch == blind.get(name, 0)
    assert STOPPING_RULES[name]([{}] * 10) == plain


@EVERY
def test_an_epoch_of_unknown_signals_is_not_kept(name):
    if name in ("last", "fixed"):
        assert STOPPING_RULES[name]([*HISTORIES[0][:3], {}]).epoch == 3
        return
    for history in HISTORIES:
        for k in range(1, 10):
            spoilt = [*history[:k], {}, *history[k + 1 :]]
            assert STOPPING_RULES[name](spoilt).epoch != k


@EVERY
def test_constant_curves_keep_the_start_unless_only_time_or_a_budget_counts(name):
    same = {**dict.fromkeys(SIGNALS, 0.5), "drift": 0.0, "flips": 0.0, "map_stability": 1.0}
    same["map_fidelity"] = 1.0
    last = {"last": 9, "fixed": 3, "drift_budget": 9, "flip_budget": 9}
    assert STOPPING_RULES[name]([same] * 10).epoch == last.get(name, 0)


@EVERY
def test_a_rule_shows_its_parameters_and_takes_others(name):
    rule = STOPPING_RULES[name]
    defaults = inspect.signature(rule.of).parameters.values()
    expected = {p.name: p.default for p in defaults if p.kind is p.KEYWORD_ONLY}
    assert rule.parameters == {**expected, **rule.chosen}
    assert rule_named(name).parameters == rule.parameters
    for parameter, value in rule.parameters.items():
        other = "confidence" if isinstance(value, str) else value + 1
        changed = rule.with_parameters(**{parameter: other})
        assert changed.parameters == {**rule.parameters, parameter: other}
    with pytest.raises(InputError, match="patienc"):
        rule.with_parameters(patienc=3)
    assert rule.title
    assert "\n" not in rule.title


def test_an_unknown_rule_names_its_nearest_neighbour():
    with pytest.raises(InputError, match="did you mean 'drift_budget'"):
        rule_named("drift_buget")


def test_last_start_and_fixed_count_epochs_only():
    epochs = [{}] * 6
    assert rule_named("last")(epochs) == Decision(5, stop=False)
    assert rule_named("start")(epochs) == Decision(0, stop=True)
    assert rule_named("fixed", epoch=4)(epochs) == Decision(4, stop=True)
    assert rule_named("fixed", epoch=5)(epochs) == Decision(5, stop=True)
    assert rule_named("fixed", epoch=6)(epochs) == Decision(5, stop=False)
    assert rule_named("fixed", epoch=0)(epochs) == Decision(0, stop=True)
    with pytest.raises(InputError, match="-1"):
        rule_named("fixed", epoch=-1)(epochs)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((0.5, 0.7, 0.8, 0.81, 0.9), 0.1, Decision(2, stop=True)),  # gains 0.2, 0.1, 0.01
        ((0.5, 0.7, 0.8, 0.81, 0.9), 0.04, Decision(4, stop=False)),
        ((0.5, 0.7, 0.6, 0.9), 0.0, Decision(1, stop=True)),
        ((0.5, 0.4, 0.9), 0.1, Decision(0, stop=True)),  # falls from the start
        ((None, 0.7, 0.8, 0.805), 0.1, Decision(2, stop=True)),  # a log that begins with epoch 1
        ((0.5, 0.7, NAN, 0.71, 0.9), 0.1, Decision(1, stop=True)),  # against the last known
        ((0.5, 0.7, NAN), 0.1, Decision(1, stop=False)),
        ((-0.5, -0.3, -0.29), 0.1, Decision(1, stop=True)),
    ],
)
def test_a_plateau_is_a_small_share_of_the_largest_gain(values, share, expected):
    assert rule_named("consistency_plateau", share=share)(curve("consistency", *values)) == expected


def test_a_plateau_does_not_depend_on_the_scale_of_the_curve():
    rule = rule_named("consistency_plateau", share=0.3)
    for history in HISTORIES:
        known = [row for row in history if row.get("consistency") is not None]
        scaled = [{"consistency": 1 + 0.25 * row["consistency"]} for row in known]
        assert rule(scaled) == rule(known)


def test_the_peak_is_the_first_largest_value_before_patience_ends():
    values = (0.5, 0.7, 0.6, 0.7, 0.69, 0.9)
    history = curve("consistency", *values)
    assert rule_named("consistency_peak", patience=3)(history) == Decision(1, stop=True)
    assert rule_named("consistency_peak", patience=4)(history) == Decision(5, stop=False)
    other = rule_named("consistency_peak", signal="class_balance", patience=4)
    assert other(curve("class_balance", *values)) == Decision(5, stop=False)


def test_an_unknown_start_is_worse_than_any_known_epoch():
    history = curve("consistency", None, 0.2, NAN, 0.3, 0.1)
    assert rule_named("consistency_peak")(history) == Decision(3, stop=False)


def maps(*pairs: tuple[float | None, float]) -> list[dict[str, float | None]]:
    """Correlation with the epoch before and with the start."""
    return [{"map_stability": one, "map_fidelity": other} for one, other in pairs]


def test_maps_at_rest_end_the_training_before_the_epoch_that_moved_nothing():
    history = maps((None, 1), (0.9, 0.99), (0.95, 0.98), (0.995, 0.98), (0.5, 0.95))
    assert rule_named("map_stability")(history) == Decision(2, stop=True)
    assert rule_named("map_stability", share=0.01)(history) == Decision(4, stop=False)


def test_maps_that_leave_the_starts_end_the_training_before_they_do():
    history = maps((None, 1), (0.9, 0.95), (0.9, 0.85), (0.9, 0.79), (0.9, 0.9))
    assert rule_named("map_stability")(history) == Decision(2, stop=True)
    assert rule_named("map_stability", fidelity=0.75)(history) == Decision(4, stop=False)
    assert rule_named("map_stability", fidelity=0.96)(history) == Decision(0, stop=True)


@pytest.mark.parametrize(("name", "signal"), [("drift_budget", "drift"), ("flip_budget", "flips")])
def test_a_budget_ends_before_it_is_first_exceeded(name, signal):
    history = curve(signal, 0.0, 0.1, 0.2, 0.31, 0.2)
    assert rule_named(name, limit=0.3)(history) == Decision(2, stop=True)
    assert rule_named(name, limit=0.2)(history[:3]) == Decision(2, stop=False)  # the limit is in
    assert rule_named(name, limit=0.05)(history) == Decision(0, stop=True)
    assert rule_named(name, limit=1)(history) == Decision(4, stop=False)
    assert rule_named(name, limit=1)(curve(signal, 0, 0.1, NAN, 0.2)) == Decision(1, stop=True)
    assert rule_named(name, limit=-1)(history) == Decision(0, stop=True)  # the start stays


def test_view_agreement_keeps_the_best_agreement():
    history = curve("view_agreement", 0.9, 0.92, 0.95, 0.94, 0.93)
    assert rule_named("view_agreement")(history) == Decision(2, stop=False)
    assert rule_named("view_agreement", patience=2)(history) == Decision(2, stop=True)


def test_calibration_keeps_the_smallest_gap_of_either_sign():
    history = curve("calibration_gap", -0.3, -0.1, -0.02, 0.05, 0.2)
    assert rule_named("calibration")(history) == Decision(2, stop=False)
    flipped = [{"calibration_gap": -row["calibration_gap"]} for row in history]
    assert rule_named("calibration", patience=2)(flipped) == Decision(2, stop=True)


def test_the_combination_is_the_best_agreement_near_the_start():
    agreement, drifts = (0.9, 0.93, 0.92, 0.99), (0, 0.1, 0.2, 0.4)
    history = [{"view_agreement": a, "drift": d} for a, d in zip(agreement, drifts, strict=True)]
    near = rule_named("agreement_within_drift", limit=0.3)
    assert near(history) == Decision(1, stop=True)
    assert near(history[:3]) == Decision(1, stop=False)
    assert near.with_parameters(limit=1)(history) == Decision(3, stop=False)
    assert near.with_parameters(patience=1)(history[:3]) == Decision(1, stop=True)


def test_the_combination_is_agreement_where_drift_is_free_and_never_leaves_the_budget():
    free = rule_named("agreement_within_drift", limit=math.inf)
    near, budget = rule_named("agreement_within_drift"), rule_named("drift_budget")
    for history in HISTORIES:
        known = [{**row, "drift": 0.0} for row in history]
        assert free(known) == rule_named("view_agreement")(known)
        assert near(history).epoch <= budget(history).epoch
