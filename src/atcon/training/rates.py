"""Learning rates over a stage: pure functions of the step, and the scheduler that torch takes."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from atcon.errors import InputError, no_such

Rate = Callable[[int, int], float]
"""From a step 0, 1, ..., steps and `steps` to the factor of the learning rate, in [0, 1]."""


def constant(step: int, steps: int) -> float:  # noqa: ARG001  what every rate is given
    """Keep the rate: 1."""
    return 1.0


def linear(step: int, steps: int) -> float:
    """Fall on a line: 1 − t, with t the share of the steps that are done."""
    return 1 - step / steps


def cosine(step: int, steps: int) -> float:
    """Fall on half a cosine, (1 + cos πt) / 2 (Loshchilov and Hutter, ICLR 2017, Eq. 5)."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def stepwise(step: int, steps: int) -> float:
    """Fall to a tenth after every third of the steps: 1, 0.1, 0.01."""
    return (1.0, 0.1, 0.01)[min(3 * step // steps, 2)]


def polynomial(step: int, steps: int) -> float:
    """Fall as (1 − t)^0.9 (Chen et al., DeepLab, TPAMI 2018)."""
    return math.pow(1 - step / steps, 0.9)


RATES: dict[str, Rate] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": stepwise,
    "polynomial": polynomial,
}
"""Every course of the learning rate, by its name."""


def rate_factor(name: str, step: int, steps: int, warm_up: float = 0.0) -> float:
    """Give the factor that the learning rate of a step is multiplied by.

    Args:
        name: A name of `RATES`.
        step: How many steps are done; after the last one the factor stays.
        steps: Of the whole stage.
        warm_up: Share of the steps that come first and rise on a line, none of them with the whole
            rate nor with none: k of them have 1/(k+1), ..., k/(k+1). The named course covers the
            rest.

    Raises:
        InputError: No such name, no steps, or a share outside [0, 1).
    """
    if name not in RATES:
        raise no_such("learning rate schedule", name, RATES)
    if steps < 1 or step < 0:
        raise InputError(
            f"a learning rate schedule needs steps of a stage that has some, but it was asked for "
            f"step {step} of {steps}"
        )
    if not 0 <= warm_up < 1:
        raise InputError(
            f"warm_up is the share of the steps, 0 or larger and below 1, but it is {warm_up}"
        )
    rising = min(round(warm_up * steps), steps - 1)
    if step < rising:
        return (step + 1) / (rising + 1)
    return RATES[name](min(step, steps) - rising, steps - rising)


def rate_scheduler(optimizer: Optimizer, name: str, steps: int, warm_up: float = 0.0) -> LambdaLR:
    """Multiply every group's own learning rate by the factor of the step.

    Call its `step()` after each step of the optimiser. Where it stands is in its `state_dict`,
    which holds plain values only; the choices are not, so a resumed stage makes it anew with the
    same ones and loads that, after the optimiser has loaded its own.

    Args:
        optimizer: Its groups' `lr` are the rates to multiply.
        name: A name of `RATES`.
        steps: Of the whole stage: epochs times batches.
        warm_up: Share of the steps that rise on a line first.

    Raises:
        InputError: As `rate_factor`.
    """
    return LambdaLR(optimizer, lambda step: rate_factor(name, step, steps, warm_up))
