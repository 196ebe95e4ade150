"""Strategies: schedules of steps, which one loop serves (sections 4.2 and 6 of the paper).

`fine_tuning` is `every_batch` of consistency steps, after a supervised stage. `combined` adds both
losses in one step; `alternated` takes turns, batch by batch. Labelled and unlabelled batches may be
of different data.
"""

from collections.abc import Callable, Iterable, Iterator

import torch

from atcon.errors import InputError
from atcon.training.steps import Batch, Outcome, Schedule, Step, generator_of

Batches = Callable[[int], Iterable[Batch]]

STRATEGIES: dict[str, str] = {
    "fine_tuning": "supervised, then consistency alone",
    "combined": "supervised + weight x consistency in every step",
    "alternated": "supervised or consistency, batch by batch",
}
"""Every strategy with what it does."""


def combined(
    supervised: Step,
    consistency: Step,
    *,
    labelled: Batches,
    unlabelled: Batches,
    weight: float = 0.2,
) -> Schedule:
    """L = L_s + weight L_A in every step: the paper's combined optimisation, weight 0.2 or 2.

    An epoch has as many steps as labelled batches; unlabelled ones begin again where they end.
    """

    def schedule(epoch: int) -> Iterator[tuple[Step, Batch]]:
        others = endless(unlabelled, epoch)
        for batch in labelled(epoch):
            yield _sum(supervised, consistency, next(others), weight), batch

    return schedule


def alternated(
    supervised: Step,
    consistency: Step,
    *,
    labelled: Batches,
    unlabelled: Batches,
    turns: Callable[[int], Iterable[bool]],
) -> Schedule:
    """Take turns, batch by batch: a supervised step where the turn is true, else consistency.

    Args:
        supervised: The step on labelled batches.
        consistency: The step on unlabelled batches.
        labelled: Batches of an epoch; they begin again, newly shuffled, where they end.
        unlabelled: The same for consistency.
        turns: Of an epoch: `fixed_turns` or `random_turns`.
    """

    def schedule(epoch: int) -> Iterator[tuple[Step, Batch]]:
        own, others = endless(labelled, epoch), endless(unlabelled, epoch)
        for is_supervised in turns(epoch):
            if is_supervised:
                yield supervised, next(own)
            else:
                yield consistency, next(others)

    return schedule


def fixed_turns(steps: int, ratio: tuple[int, int] = (1, 1)) -> Callable[[int], list[bool]]:
    """`ratio` = (s, c): s supervised steps, then c of consistency, and so on for `steps` steps.

    Raises:
        InputError: The ratio holds a negative number, or no step at all.
    """
    own, others = ratio
    if own < 0 or others < 0 or own + others == 0:
        raise InputError(f"a ratio of turns is two counts such as (1, 1), not {ratio}")
    return lambda _epoch: [at % (own + others) < own for at in range(steps)]


def random_turns(
    steps: int, labelled: int, unlabelled: int, *, seed: int, alpha: float = 8.0
) -> Callable[[int], list[bool]]:
    """Draw every turn: supervised with p = alpha N_s / (alpha N_s + N_u) (the authors' code).

    Args:
        steps: Of an epoch.
        labelled: N_s.
        unlabelled: N_u.
        seed: Each epoch's draws depend on it and on the epoch only.
        alpha: How much more often a labelled image is seen than an unlabelled one.
    """
    share = alpha * labelled / (alpha * labelled + unlabelled)

    def turns(epoch: int) -> list[bool]:
        draws = torch.rand(steps, generator=generator_of(seed, "turns", epoch))
        return (draws < share).tolist()

    return turns


def endless(batches: Batches, epoch: int) -> Iterator[Batch]:
    """Go through the batches of an epoch again and again, each time in another order.

    The first pass is the epoch's own; pass k is drawn as that of epoch `epoch + k * 10**6`, so that
    an epoch does not depend on how far the one before it came.
    """
    step = 10**6
    for again in range(step):
        empty = True
        for batch in batches(epoch + again * step):
            empty = False
            yield batch
        if empty:
            raise InputError("there are no images for this kind of step")


def _sum(supervised: Step, consistency: Step, other: Batch, weight: float) -> Step:
    """Both losses in one step; `other` is the batch of the second."""

    def step(batch: Batch) -> Outcome:
        own, maps = supervised(batch), consistency(other)
        return Outcome(
            own.loss + weight * maps.loss,
            {"supervised_loss": float(own.loss.detach()), **own.logged, **maps.logged},
            beside=other.names,
        )

    return step
