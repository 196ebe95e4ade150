import io

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from atcon.errors import InputError
from atcon.training.rates import RATES, rate_factor, rate_scheduler

STEPS = 12
TORCH = {
    "constant": lambda optimizer, steps: ConstantLR(optimizer, factor=1),
    "linear": lambda optimizer, steps: LinearLR(optimizer, 1, 0, total_iters=steps),
    "cosine": CosineAnnealingLR,
    "step": lambda optimizer, steps: StepLR(optimizer, steps // 3),
    "polynomial": lambda optimizer, steps: PolynomialLR(optimizer, steps, power=0.9),
}


def optimizer_of(*rates):
    return torch.optim.SGD(
        [{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    )


def course(optimizer, scheduler, steps):
    """Give the learning rates with which the steps are taken."""
    taken = []
    for _ in range(steps):
        taken.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return taken


def assert_same_course(found, expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


@pytest.mark.parametrize("name", RATES)
def test_a_course_is_that_of_torchs_own_scheduler(name):
    optimizer, other = optimizer_of(0.1, 3.0), optimizer_of(0.1, 3.0)
    found = course(optimizer, rate_scheduler(optimizer, name, STEPS), STEPS)
    assert_same_course(found, course(other, TORCH[name](other, STEPS), STEPS))


@pytest.mark.parametrize("name", RATES)
def test_warm_up_rises_on_a_line_and_the_course_covers_the_rest(name):
    optimizer, other = optimizer_of(0.1), optimizer_of(0.1)
    found = course(optimizer, rate_scheduler(optimizer, name, 16, 0.25), 16)
    parts = [LinearLR(other, 1 / 5, 1, total_iters=4), TORCH[name](other, 12)]
    expected = course(other, SequentialLR(other, parts, [4]), 16)
    assert_same_course(found, expected)
    assert found[:5] == [[pytest.approx(0.1 * k / 5)] for k in range(1, 6)]


@pytest.mark.parametrize("warm_up", [0, 0.05, 0.3, 0.99])
@pytest.mark.parametrize("name", RATES)
def test_a_factor_is_between_0_and_1_and_every_step_learns(name, warm_up):
    for steps in range(1, 30):
        factors = [rate_factor(name, step, steps, warm_up) for step in range(steps)]
        assert all(0 < factor <= 1 for factor in factors)
        assert max(factors) == 1
        falls = factors[factors.index(1) :]
        assert falls == sorted(falls, reverse=True)


ENDS = {"constant": 1, "linear": 0, "cosine": 0, "step": 0.01, "polynomial": 0}


@pytest.mark.parametrize("name", RATES)
def test_after_the_last_step_the_factor_stays(name):
    for step in (STEPS, STEPS + 1, 10 * STEPS):
        assert rate_factor(name, step, STEPS) == pytest.approx(ENDS[name], abs=1e-15)


def test_steps_that_are_no_multiple_of_three_fall_after_each_third():
    found = [rate_factor("step", step, 10) for step in range(10)]
    assert found == [1] * 4 + [0.1] * 3 + [0.01] * 3


@pytest.mark.parametrize("name", RATES)
def test_a_resumed_course_goes_on_where_it_was(name):
    whole = optimizer_of(0.1, 3.0)
    expected = course(whole, rate_scheduler(whole, name, STEPS, 0.2), STEPS)
    first = optimizer_of(0.1, 3.0)
    scheduler = rate_scheduler(first, name, STEPS, 0.2)
    found = course(first, scheduler, 5)
    file = io.BytesIO()
    torch.save([first.state_dict(), scheduler.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    second = optimizer_of(0.1, 3.0)
    scheduler = rate_scheduler(second, name, STEPS, 0.2)
    second.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert found + course(second, scheduler, STEPS - 5) == expected


def test_a_wrong_choice_is_refused_before_the_first_step():
    with pytest.raises(InputError, match="no learning rate schedule 'cosinus': did you mean 'cos"):
        rate_scheduler(optimizer_of(0.1), "cosinus", STEPS)
    with pytest.raises(InputError, match=r"warm_up is the share .* but it is 1"):
        rate_scheduler(optimizer_of(0.1), "cosine", STEPS, 1)
    with pytest.raises(InputError, match="step 0 of 0"):
        rate_scheduler(optimizer_of(0.1), "cosine", 0)
