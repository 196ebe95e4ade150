"""Early stopping: a rule on the history of validations, so that a resume needs nothing more."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atcon.errors import InputError


def validations_since_best(values: Iterable[float]) -> int:
    """Count the validations after the best one; larger is better.

    Ties are no improvement, and neither is NaN, so that a history without any number has no best
    one and all of it counts.
    """
    best, waited = -math.inf, 0
    for value in values:
        if value > best:
            best, waited = value, 0
        else:
            waited += 1
    return waited


@dataclass(frozen=True)
class Patience:
    """Stop when so many validations in a row have not improved a metric (Prechelt, 1998).

    The selection of the loop decides which weights are kept; this decides only when to stop. One
    difference is meant: an epoch as good as the start replaces it there, but is no improvement
    here.

    Attributes:
        patience: How many validations without an improvement end a stage.
        metric: Which of the validation's values, the larger the better.
    """

    patience: int
    metric: str

    def __post_init__(self) -> None:
        """Refuse a patience that would stop before anything was tried."""
        if self.patience < 1:
            raise InputError(
                f"patience is the number of validations without an improvement that end a stage, "
                f"1 or larger, but it is {self.patience}; leave it out to train all epochs"
            )

    def stops(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Say whether to stop after these validations, the one before the first step included.

        Raises:
            InputError: A validation lacks the metric.
        """
        for validation in history:
            if self.metric not in validation:
                raise InputError(
                    f"patience waits for {self.metric!r}, but a validation gave "
                    f"{', '.join(validation) or 'nothing'}"
                )
        values = (validation[self.metric] for validation in history)
        return validations_since_best(values) >= self.patience
