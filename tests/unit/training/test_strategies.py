import math
from itertools import islice

import pytest
import torch

from atcon.errors import InputError
from atcon.training import Batch, Outcome, alternated, combined, fixed_turns, random_turns
from atcon.training.strategies import endless


def batches_of(kind, count):
    def batches(epoch):
        for place in range(count):
            yield Batch(torch.zeros(1, 1), torch.zeros(1, 1), (f"{kind}{epoch}.{place}",))

    return batches


def step_of(value, name):
    def step(batch):
        return Outcome(torch.tensor(value, requires_grad=True), {name: value})

    return step


SUPERVISED, CONSISTENCY = step_of(2.0, "labels"), step_of(-0.5, "correlation")
OWN, OTHERS = batches_of("own", 3), batches_of("other", 2)


def test_a_combined_step_is_the_weighted_sum_of_both_losses():
    schedule = combined(SUPERVISED, CONSISTENCY, labelled=OWN, unlabelled=OTHERS, weight=0.2)
    steps = list(schedule(1))
    assert [batch.names[0] for _, batch in steps] == ["own1.0", "own1.1", "own1.2"]
    step, batch = steps[0]
    outcome = step(batch)
    assert outcome.loss.item() == pytest.approx(2 - 0.1)
    assert outcome.logged == {"supervised_loss": 2.0, "labels": 2.0, "correlation": -0.5}


def test_unlabelled_batches_begin_again_in_another_order():
    names = [batch.names[0] for batch in islice(endless(OTHERS, 1), 5)]
    assert names == ["other1.0", "other1.1", "other1000001.0", "other1000001.1", "other2000001.0"]
    with pytest.raises(InputError, match="no images"):
        next(endless(batches_of("none", 0), 1))


@pytest.mark.parametrize(
    ("ratio", "turns"), [((1, 1), [1, 0, 1, 0, 1]), ((2, 1), [1, 1, 0, 1, 1]), ((0, 1), [0] * 5)]
)
def test_fixed_turns_follow_their_ratio(ratio, turns):
    assert fixed_turns(5, ratio)(1) == [bool(turn) for turn in turns]


@pytest.mark.parametrize("ratio", [(0, 0), (-1, 2)])
def test_a_ratio_without_steps_is_refused(ratio):
    with pytest.raises(InputError, match="a ratio of turns"):
        fixed_turns(5, ratio)


def test_turns_choose_the_step_and_its_own_batches():
    schedule = alternated(
        SUPERVISED, CONSISTENCY, labelled=OWN, unlabelled=OTHERS, turns=fixed_turns(4)
    )
    seen = [(step, batch.names[0]) for step, batch in schedule(1)]
    assert seen == [
        (SUPERVISED, "own1.0"),
        (CONSISTENCY, "other1.0"),
        (SUPERVISED, "own1.1"),
        (CONSISTENCY, "other1.1"),
    ]


def test_random_turns_have_the_share_of_the_reference_and_repeat_with_seed_and_epoch():
    turns = random_turns(20_000, 24, 300, seed=3, alpha=8.0)
    drawn, share = turns(1), 8 * 24 / (8 * 24 + 300)
    error = math.sqrt(share * (1 - share) / len(drawn))
    assert sum(drawn) / len(drawn) == pytest.approx(share, abs=4 * error)
    assert drawn == random_turns(20_000, 24, 300, seed=3, alpha=8.0)(1)
    assert drawn != turns(2)
    assert drawn != random_turns(20_000, 24, 300, seed=4, alpha=8.0)(1)
