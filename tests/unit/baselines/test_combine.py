"""A combination of methods is the sum of their steps: values, gradients and what is logged."""

import pytest
import torch
from nets import assert_same_gradients, gradients, stages
from tiny import pictures
from torch import nn

from atcon.baselines import LayerAttentionLoss, layer_attention_step, sum_of
from atcon.consistency import ConsistencyLoss
from atcon.errors import InputError
from atcon.training import (
    Batch,
    Outcome,
    SupervisedLoss,
    consistency_step,
    supervised_step,
)

BATCH = Batch(pictures(3), torch.eye(4).double()[:3], ("a", "b", "c"))


def without_dropout():
    model = stages()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def steps_of(model, policy):
    supervised = SupervisedLoss(model, multi_label=False, batch_norm=policy)
    ours = ConsistencyLoss(model)
    layers = LayerAttentionLoss(model, omega=3.0)
    return [
        supervised_step(supervised),
        consistency_step(ours, ours),
        layer_attention_step(layers, layers),
    ]


def taken(model, step):
    model.zero_grad()
    outcome = step(BATCH)
    outcome.loss.backward()
    return outcome, gradients(model)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2)], ids=str)
def test_losses_and_gradients_are_added_and_logs_merged(order):
    model = without_dropout()
    steps = [steps_of(model, "frozen")[index] for index in order]
    parts = [taken(model, step) for step in steps]
    together, found = taken(model, sum_of(*steps))
    losses = torch.stack([outcome.loss.detach() for outcome, _ in parts])
    torch.testing.assert_close(together.loss.detach(), losses.sum())
    names = {name for _, part in parts for name in part}
    expected = {name: sum(part[name] for _, part in parts if name in part) for name in names}
    assert_same_gradients(found, expected, 1e-10)
    logged = [item for outcome, _ in parts for item in outcome.logged.items()]
    assert together.logged == dict(logged)
    assert {"correlation", "layer_consistency"} <= together.logged.keys()


@pytest.mark.parametrize("order", [(0, 2), (2, 0), (0, 1, 2), (2, 1, 0)], ids=str)
def test_a_supervised_step_may_move_the_statistics_in_any_place(order):
    model = without_dropout()
    steps = steps_of(model, "batch")
    before = model.stages[0][1].running_mean.clone()
    outcome, found = taken(model, sum_of(*[steps[index] for index in order]))
    assert outcome.loss.isfinite()
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())
    assert not torch.equal(before, model.stages[0][1].running_mean)


def test_one_step_alone_is_itself():
    expected = Outcome(torch.tensor(2.0), {"a": 1.0})
    found = sum_of(lambda _: expected)(BATCH)
    assert (float(found.loss), found.logged) == (2.0, {"a": 1.0})


def test_steps_run_in_their_order_on_the_same_batch():
    seen = []

    def step(name):
        def run(batch):
            seen.append((name, batch))
            return Outcome(torch.zeros(()), {name: 0.0})

        return run

    sum_of(step("a"), step("b"), step("c"))(BATCH)
    assert seen == [("a", BATCH), ("b", BATCH), ("c", BATCH)]


def test_a_sum_of_sums_is_a_sum():
    parts = [lambda _, k=k: Outcome(torch.tensor(float(k)), {str(k): k}) for k in range(3)]
    found = sum_of(sum_of(parts[0], parts[1]), parts[2])(BATCH)
    assert (float(found.loss), found.logged) == (3.0, {"0": 0, "1": 1, "2": 2})


def test_two_values_of_one_name_are_refused():
    step = sum_of(*[lambda _: Outcome(torch.zeros(()), {"seen": 0.0, "b": 1.0})] * 2)
    with pytest.raises(InputError, match="two of the steps log b, seen"):
        step(BATCH)


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="no steps to add"):
        sum_of()
