import io

import pytest
import torch
from tiny import network, pictures

from atcon.consistency import ConsistencyLoss
from atcon.errors import AtconError
from atcon.training import (
    Batch,
    Outcome,
    Selection,
    SupervisedLoss,
    TrainingState,
    consistency_step,
    every_batch,
    fit,
    generator_of,
    supervised_step,
)


class Plain:
    """What the loop needs of Lightning Fabric."""

    def backward(self, tensor):
        tensor.backward()


class Notes:
    """An observer that writes everything down."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def step(self, epoch, done, logged):
        self.steps.append((epoch, done, dict(logged)))

    def epoch(self, record):
        self.epochs.append(dict(record))


def batches(epoch):
    """Two batches, in an order that depends on the epoch."""
    images, labels = pictures(4, dtype=torch.float32), torch.eye(4)
    order = torch.randperm(4, generator=generator_of(0, "order", epoch))
    for part in order.split(2):
        yield Batch(images[part], labels[part], tuple(f"{i}.jpg" for i in part.tolist()))


def fresh(metric="map"):
    model = network("plain", dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return TrainingState(model, optimizer, Selection(metric))


def schedule_of(state, kind):
    if kind == "supervised":
        loss = SupervisedLoss(state.model, multi_label=True, batch_norm="batch")
        return every_batch(supervised_step(loss), batches)
    loss = ConsistencyLoss(state.model, mask="deviation")
    return every_batch(consistency_step(loss, loss), batches)


def run(state, epochs, validate=lambda: {"map": 1.0}, *, kind="supervised", **options):
    options = {"seed": 7, "backend": Plain(), "observer": Notes(), "keep_start": False, **options}
    return fit(state, schedule_of(state, kind), validate, epochs=epochs, **options)


def distance(state):
    """A validation that depends on the weights, and on nothing else."""

    def validate():
        return {"map": -float(sum(p.detach().square().sum() for p in state.model.parameters()))}

    return validate


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            if key != "seconds":
                assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("kind", ["supervised", "consistency"])
@pytest.mark.parametrize("keep_start", [False, True])
def test_a_resumed_stage_equals_an_uninterrupted_one_bit_for_bit(kind, keep_start):
    whole = fresh()
    run(whole, 4, distance(whole), kind=kind, keep_start=keep_start)

    saved = io.BytesIO()
    first = fresh()
    run(first, 2, distance(first), kind=kind, keep_start=keep_start)
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    torch.manual_seed(123)
    second = fresh()
    second.load_state_dict(torch.load(saved, weights_only=True))
    notes = Notes()
    run(second, 4, distance(second), kind=kind, keep_start=keep_start, observer=notes)

    assert [record["epoch"] for record in notes.epochs] == [3, 4]
    assert_equal(second.state_dict(), whole.state_dict())
    assert not torch.equal(whole.model[0].weight, fresh().model[0].weight)


def test_every_epoch_is_saved_with_all_that_a_resume_needs():
    state, saved = fresh(), []
    run(state, 3, save=lambda s: saved.append((s.epoch, s.selection.epoch)))
    assert saved == [(1, 1), (2, 1), (3, 1)]


def test_a_finished_stage_is_not_trained_again():
    state = run(fresh(), 2)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    notes = Notes()
    run(state, 2, observer=notes)
    assert notes.epochs == notes.steps == []
    assert_equal(dict(state.model.state_dict()), before)


def test_dropout_does_not_depend_on_the_callers_random_state_nor_disturb_it():
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        weights.append(run(fresh(), 1).model[0].weight.detach().clone())
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], run(fresh(), 1, seed=8).model[0].weight)


@pytest.mark.parametrize(
    ("values", "keep_start", "kept"),
    [
        ([3, 1, 2], False, 1),
        ([1, 2, 2], False, 2),
        ([2, 2, 2], False, 1),
        ([5, 4, 4, 4], True, 0),
        ([5, 5, 4, 4], True, 1),
        ([5, 5, 5, 4], True, 1),
        ([5, 5, 6, 6], True, 2),
        ([5, 4, 5, 4], True, 2),
        ([float("nan"), 1, 2], False, 3),
        ([float("nan"), 1, 1], True, 1),
        ([1, float("nan"), 0], True, 0),
    ],
)
def test_the_best_epoch_is_kept_the_earlier_of_equals_but_never_the_start(values, keep_start, kept):
    state, results = fresh(), iter(values)
    weights = {0: state.model[0].weight.detach().clone()}

    def remember(current):
        weights[current.epoch] = current.model[0].weight.detach().clone()

    epochs = len(values) - keep_start
    run(state, epochs, lambda: {"map": next(results)}, keep_start=keep_start, save=remember)
    assert state.selection.epoch == kept
    assert state.selection.value == values[kept if keep_start else kept - 1]
    assert torch.equal(state.selection.weights["0.weight"], weights[kept])
    assert state.start == ({"map": pytest.approx(values[0], nan_ok=True)} if keep_start else {})


def test_the_selected_weights_are_not_trained_on():
    state = fresh()
    selection = state.selection
    selection.consider(1, {"map": 1.0}, state.model)
    before = selection.weights["0.weight"].clone()
    run(state, 1, lambda: {"map": 0.0})
    assert torch.equal(selection.weights["0.weight"], before)


def test_the_start_is_measured_once():
    calls = []

    def validate():
        calls.append(1)
        return {"map": 1.0}

    state = run(fresh(), 2, validate, keep_start=True)
    run(state, 3, validate, keep_start=True)
    assert len(calls) == 1 + 2 + 1


def test_a_loss_that_is_not_finite_names_its_images_and_leaves_the_weights():
    state = fresh()
    before = {k: v.clone() for k, v in state.model.state_dict().items()}

    def diverge(batch):
        return Outcome(state.model[0].weight.sum() * float("nan"), {})

    schedule = every_batch(diverge, lambda _epoch: [Batch(pictures(2), torch.eye(2), ("a", "b"))])
    with pytest.raises(AtconError, match="the loss became nan on a, b: lower the learning rate"):
        fit(
            state,
            schedule,
            lambda: {"map": 1.0},
            epochs=1,
            seed=0,
            backend=Plain(),
            observer=Notes(),
            keep_start=False,
        )
    assert_equal(dict(state.model.state_dict()), before)
    assert state.epoch == 0


@pytest.mark.parametrize("kind", ["supervised", "consistency"])
def test_the_observer_hears_of_every_step_and_the_means_of_every_epoch(kind):
    notes = Notes()
    run(fresh(), 2, kind=kind, observer=notes)
    assert [step[:2] for step in notes.steps] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    logged = [step[2] for step in notes.steps[:2]]
    record = notes.epochs[0]
    for key in logged[0]:
        assert record[key] == pytest.approx((logged[0][key] + logged[1][key]) / 2)
    assert record["validation"] == {"map": 1.0}
    if kind == "consistency":
        assert record["correlation"] == pytest.approx(-record["loss"])
        assert {"mask_contrast", "entropy", "between_images"} <= set(record)


def test_a_value_that_is_never_defined_is_reported_as_none():
    state, notes = fresh(), Notes()
    loss = ConsistencyLoss(state.model)
    one = Batch(pictures(1, dtype=torch.float32), torch.eye(4)[:1], ("one",))
    schedule = every_batch(consistency_step(loss, loss), lambda _epoch: [one])
    options = {"epochs": 1, "seed": 0, "backend": Plain(), "keep_start": False}
    fit(state, schedule, lambda: {"map": 1.0}, observer=notes, **options)
    assert notes.epochs[0]["between_images"] is None


def test_training_lowers_the_supervised_loss():
    notes = Notes()
    run(fresh(), 15, observer=notes)
    assert notes.epochs[-1]["loss"] < notes.epochs[0]["loss"]
