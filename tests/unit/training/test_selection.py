import io

import pytest
import torch
from torch import nn

from atcon.training import STOPPING_RULES, RuleSelection, Selection, rule_named


def model_of(value):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    return model


def kept(selection):
    return float(selection.weights["weight"])


def test_patience_ends_a_stage_after_so_many_rounds_without_an_improvement():
    selection = Selection("map", patience=2)
    for epoch, value in enumerate([1.0, 3.0, 2.0, 3.0]):
        assert not selection.stops()
        selection.consider(epoch, {"map": value}, model_of(epoch))
    assert selection.stops()
    assert (selection.epoch, kept(selection)) == (1, 1.0)


def test_without_patience_a_stage_is_trained_to_its_end():
    selection = Selection("map")
    for epoch in range(20):
        selection.consider(epoch, {"map": -float(epoch)}, model_of(epoch))
    assert not selection.stops()


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_a_rule_keeps_the_weights_of_the_round_that_it_names(name):
    rule = rule_named(name)
    history = [
        {"drift": 0.004 * epoch, "flips": 0.01 * epoch, "consistency": value,
         "view_agreement": value, "calibration_gap": 1 - value, "map_stability": 0.9,
         "map_fidelity": 0.99}
        for epoch, value in enumerate([0.5, 0.7, 0.8, 0.6, 0.5, 0.4])
    ]  # fmt: skip
    selection = RuleSelection(rule)
    for epoch, signals in enumerate(history):
        if selection.stops():
            break
        selection.consider(epoch, signals, model_of(epoch))
    assert selection.epoch == kept(selection) == rule(history).epoch


@pytest.mark.parametrize("made", [Selection("map", 3), RuleSelection(rule_named("view_agreement"))])
def test_a_saved_selection_goes_on_as_if_it_had_not_stopped(made):
    measured = [{"map": v, "view_agreement": v} for v in (0.1, 0.6, 0.2, 0.7, 0.3)]
    fresh = Selection("map", 3) if isinstance(made, Selection) else RuleSelection(made.rule)
    for epoch, values in enumerate(measured[:3]):
        made.consider(epoch, values, model_of(epoch))
    saved = io.BytesIO()
    torch.save(made.state_dict(), saved)
    saved.seek(0)
    fresh.load_state_dict(torch.load(saved, weights_only=True))
    for epoch, values in enumerate(measured[3:], 3):
        made.consider(epoch, values, model_of(epoch))
        fresh.consider(epoch, values, model_of(epoch))
    assert (fresh.epoch, kept(fresh), fresh.history) == (made.epoch, kept(made), made.history)
    assert fresh.epoch == 3
