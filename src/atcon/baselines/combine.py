"""Several losses in one step: a combination of methods is the sum of their steps."""

from collections import Counter

import torch

from atcon.errors import InputError
from atcon.training import Batch, Outcome, Step


def sum_of(*steps: Step) -> Step:
    """One step that asks all of these of a batch: losses are added, logged values merged.

    Each runs its own forward pass, in the order given, and one `backward()` serves them all.

    Raises:
        InputError: There are no steps; or, when it runs, two log a value of the same name.
    """
    if not steps:
        raise InputError("there are no steps to add: give sum_of at least one")

    def step(batch: Batch) -> Outcome:
        outcomes = [part(batch) for part in steps]
        names = Counter(name for outcome in outcomes for name in outcome.logged)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise InputError(
                f"two of the steps log {', '.join(twice)}: one of the values would be lost, so add "
                "steps of different losses"
            )
        loss = torch.stack([outcome.loss for outcome in outcomes]).sum()
        logged = {name: value for part in outcomes for name, value in part.logged.items()}
        return Outcome(loss, logged)

    return step
