import pytest
import torch

from atcon.training import Batch, Outcome, Rounds

BATCHES = 3


def step(batch):
    return Outcome(torch.tensor(0.0), {})


def schedule(epoch):
    """Three batches an epoch, named by epoch and place."""
    for place in range(BATCHES):
        yield step, Batch(torch.zeros(1, 1), torch.zeros(1, 1), (f"{epoch}.{place}",))


def seen(rounds):
    cut = rounds.cut(schedule)
    return [[batch.names[0] for _, batch in cut(number + 1)] for number in range(rounds.count)]


@pytest.mark.parametrize("every", range(1, 10))
def test_rounds_hold_every_step_once_and_in_order(every):
    rounds = Rounds(epochs=4, batches=BATCHES, every=every)
    whole = [batch.names[0] for epoch in range(1, 5) for _, batch in schedule(epoch)]
    cut = seen(rounds)
    assert [name for part in cut for name in part] == whole
    assert {len(part) for part in cut[:-1]} <= {every}
    assert 0 < len(cut[-1]) <= every


def test_a_round_of_epochs_ends_with_an_epoch():
    rounds = Rounds.of_epochs(5, BATCHES, every=2)
    assert rounds.count == 3
    assert [rounds.epoch_at(number) for number in range(4)] == [0, 2, 4, 5]
    assert seen(rounds)[1][0] == "3.0"


def test_a_round_of_batches_is_named_by_the_epochs_done():
    rounds = Rounds(epochs=2, batches=BATCHES, every=2)
    assert [rounds.epoch_at(number) for number in range(4)] == [0, 0.667, 1.333, 2]
    assert [rounds.steps_after(number) for number in range(4)] == [6, 4, 2, 0]
