import pytest
import torch
from tiny import network, pictures

from atcon.attention import Trace, resolve_layer
from atcon.consistency import (
    CORRELATIONS,
    MATCHINGS,
    MONITORED,
    ConsistencyLoss,
    MaskOptions,
    monitored_losses,
    monitoring,
)

CHOICES = pytest.mark.parametrize(
    "choices",
    [
        {"preset": "default"},
        {"preset": "paper"},
        {"preset": "reference", "mask_options": MaskOptions(slope=40.0, floor=0.2)},
        {"preset": "default", "mirror": True},
    ],
    ids=["default", "paper", "squashed, other options", "mirrored"],
)


@CHOICES
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_the_twelve_losses_are_those_of_twelve_loss_modules(name, choices):
    model, images = network(name), pictures(3)
    loss = ConsistencyLoss(model, **choices)
    loss(images)
    _, layer = resolve_layer(model, loss.layer_name, images)
    found = monitored_losses(model, images, layer, loss.method)
    assert list(found) == [(row, h) for row in MONITORED for h in CORRELATIONS]
    for (row, h), values in found.items():
        own = dict(choices)
        if MATCHINGS[row].by != "mask":
            own.pop("mirror", None)
        one = ConsistencyLoss(model, loss.layer_name, matching=row, correlation=h, **own)
        torch.testing.assert_close(values, -one.compare(images).correlation, rtol=0, atol=1e-12)
        assert values.mean().item() == pytest.approx(one(images).item(), abs=1e-12)


def test_the_rows_are_the_matchings_that_name_their_maps():
    assert sorted(MONITORED) == sorted(row for row, one in MATCHINGS.items() if one.maps)
    assert len(MONITORED) * len(CORRELATIONS) == 12


def test_three_passes_serve_all_and_leave_the_model_as_it_was(monkeypatch):
    model, images = network("plain").train(), pictures(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    name, layer = resolve_layer(model, None, images)
    method = ConsistencyLoss(model, name).method
    passes = []
    traced, again = monitoring.trace, Trace.again

    def count(make):
        return lambda *given: passes.append(1) or make(*given)

    monkeypatch.setattr(monitoring, "trace", count(traced))
    monkeypatch.setattr(Trace, "again", count(again))
    found = monitored_losses(model, images, layer, method)
    assert len(passes) == 3
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(values.requires_grad for values in found.values())
