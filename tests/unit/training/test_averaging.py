import io
from contextlib import suppress

import pytest
import torch
from condition import assert_same, condition
from tiny import network, pictures
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from atcon.errors import InputError
from atcon.training.averaging import Average, decay_at


def trajectory(model, steps=8, seed=0):
    """Move the weights, and the buffers as training moves them; yields after every step."""
    make = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.is_floating_point():
                    tensor.add_(torch.rand(tensor.shape, generator=make, dtype=tensor.dtype))
                else:
                    tensor.add_(1)
        yield


def tensors(model):
    return {
        name: tensor.detach().clone()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def test_an_average_is_that_of_torchs_averaged_model():
    model = network("plain")
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    theirs.update_parameters(model)  # the first one copies
    ours = Average(model, 0.8, warm_up=False)
    for _ in trajectory(model):
        ours.update(model)
        theirs.update_parameters(model)
    for name, expected in tensors(theirs.module).items():
        if expected.is_floating_point():
            torch.testing.assert_close(ours.values[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("warm_up", [False, True])
def test_an_average_is_its_closed_form(warm_up):
    model, decay = network("plain"), 0.3
    average = Average(model, decay, warm_up=warm_up)
    seen = [tensors(model)]
    for _ in trajectory(model):
        average.update(model)
        seen.append(tensors(model))
    kept = [min(decay, (1 + t) / (10 + t)) if warm_up else decay for t in range(8)]
    shares = [1.0, *(1 - d for d in kept)]
    for at in range(9):
        for d in kept[at:]:
            shares[at] *= d
    assert sum(shares) == pytest.approx(1)
    for name, value in average.values.items():
        if value.is_floating_point():
            expected = sum(share * then[name] for share, then in zip(shares, seen, strict=True))
            torch.testing.assert_close(value, expected)


def test_the_decay_warms_up_to_the_one_asked_for():
    assert decay_at(0, 0.999) == 0.1
    assert decay_at(8, 0.999) == 0.5
    assert [decay_at(t, 0.5) for t in (7, 8, 9, 1000)] == [8 / 17, 0.5, 0.5, 0.5]
    assert decay_at(0, 0.999, warm_up=False) == 0.999


def test_running_statistics_are_averaged_and_counts_copied():
    model = nn.BatchNorm1d(2)
    average = Average(model, 0.75, warm_up=False)
    model.running_mean.fill_(8)
    model.num_batches_tracked.fill_(5)
    average.update(model)
    assert average.values["running_mean"].tolist() == [2, 2]
    assert average.values["num_batches_tracked"].item() == 5


def test_frozen_statistics_stay_bitwise():
    model = network("plain")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    average = Average(model, 0.9)
    for _ in range(20):
        average.update(model)
    assert all(torch.equal(average.values[name], value) for name, value in before.items())


def test_half_precision_does_not_round_small_updates_away():
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    model.weight.data.fill_(1)
    average = Average(model, 0.999, warm_up=False)
    model.weight.data.fill_(2)
    for _ in range(1000):
        average.update(model)
    assert average.values["weight"].item() == pytest.approx(2 - 0.999**1000, rel=1e-4)
    with average.applied(model):
        assert model.weight.dtype == torch.bfloat16
        assert model.weight.item() == pytest.approx(2 - 0.999**1000, rel=2**-8)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("built", ["plain", "residual", "edits"])
def test_the_trained_weights_are_back_bitwise(built, fails):
    model, images = network(built), pictures()
    average = Average(model, 0.9)
    for _ in trajectory(model, 3):
        average.update(model)
    next(model.parameters()).data[0] = torch.nan  # a stage that went wrong
    before = condition(model)
    pointers = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    with suppress(ZeroDivisionError), average.applied(model) as lent:
        assert lent is model
        for name, value in tensors(model).items():
            assert torch.equal(value, average.values[name])
        assert model(images.clone()).isfinite().all()
        assert 1 / (not fails)
    assert_same(before, condition(model))
    assert pointers == [t.data_ptr() for t in (*model.parameters(), *model.buffers())]


def test_an_optimiser_goes_on_as_if_nothing_had_been_applied():
    found = []
    for applies in (False, True):
        model, images = network("plain").eval(), pictures()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        average = Average(model, 0.9)
        for _ in range(5):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
            average.update(model)
            if applies:
                with average.applied(model):
                    model(images)
        found.append(tensors(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_resumed_average_equals_an_uninterrupted_one():
    model = network("plain")
    whole, resumed = Average(model, 0.9), Average(model, 0.9)
    for step, _ in enumerate(trajectory(model)):
        whole.update(model)
        resumed.update(model)
        if step == 3:
            file = io.BytesIO()
            torch.save(resumed.state_dict(), file)
            file.seek(0)
            resumed = Average(network("plain", seed=4), 0.9)
            resumed.load_state_dict(torch.load(file, weights_only=True))
    assert whole.updates == resumed.updates == 8
    assert all(torch.equal(whole.values[name], resumed.values[name]) for name in whole.values)


def test_a_saved_average_holds_tensors_only():
    state = Average(network("plain"), 0.9).state_dict()
    assert [*state] == ["updates", "values"]
    values = [state["updates"], *state["values"].values()]
    assert all(type(value) is torch.Tensor for value in values)


def test_an_average_shares_no_memory_with_the_model():
    model = network("plain")
    average = Average(model, 0.9)
    before = {name: value.clone() for name, value in average.values.items()}
    list(trajectory(model, 1))
    assert all(torch.equal(before[name], value) for name, value in average.values.items())


def test_shared_weights_are_averaged_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    average = Average(model, 0.5, warm_up=False)
    assert [*average.values] == ["0.weight", "0.bias", "1.bias"]
    before = model[0].weight.detach().clone()
    model[0].weight.data += 2
    average.update(model)
    with average.applied(model):
        torch.testing.assert_close(model[1].weight.detach(), before + 1)


def test_another_model_is_refused():
    average = Average(network("plain"), 0.9)
    for other in (network("residual"), nn.Sequential(*[*network("plain")][:-1])):
        with pytest.raises(InputError, match=r"(Residual|Sequential) is not what was averaged"):
            average.update(other)
        with pytest.raises(InputError, match="the saved average is not what was averaged"):
            average.load_state_dict(Average(other, 0.9).state_dict())
    with pytest.raises(InputError, match="below 1, but it is 1"):
        Average(network("plain"), 1)
