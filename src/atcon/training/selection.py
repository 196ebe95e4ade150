"""Which round a stage keeps: the best on validation, or what a rule says without labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from atcon.training.patience import Patience
from atcon.training.stopping import Rule

Weights = dict[str, Tensor]
Validations = Sequence[Mapping[str, float]]


class Keeps(Protocol):
    """Looks at every round of a stage and keeps the weights of one of them."""

    epoch: int | None
    weights: Weights

    def consider(self, epoch: int, validation: Mapping[str, float], model: nn.Module) -> None:
        """Look at the model after a round; rounds come in order."""

    def stops(self) -> bool:
        """Whether no later round is wanted."""

    def state_dict(self) -> dict[str, Any]:
        """Give tensors and plain values only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""


@dataclass
class Selection:
    """Keeps the weights of the best round; ties go to the earlier one.

    Attributes:
        metric: The validation metric to maximise.
        patience: How many rounds without an improvement end the stage; None trains all of them.
        epoch: The round kept; None before the first.
        value: Its metric.
        weights: Its weights, on the CPU.
        history: Every validation, in order.
    """

    metric: str
    patience: int | None = None
    epoch: int | None = None
    value: float = -math.inf
    weights: Weights = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def consider(self, epoch: int, validation: Mapping[str, float], model: nn.Module) -> None:
        """Keep the model if it beats the best round; one as good as the start replaces it.

        A metric that is not defined (NaN) is worse than any other.
        """
        self.history.append(dict(validation))
        value = validation[self.metric]
        better = value >= self.value if self.epoch == 0 else value > self.value
        if self.epoch is None or better or math.isnan(self.value):
            self.epoch, self.value, self.weights = epoch, value, weights_of(model)

    def stops(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and Patience(self.patience, self.metric).stops(
            self.history
        )

    def state_dict(self) -> dict[str, Any]:
        """Give what a resume needs; the weights apart, numbers only."""
        return {
            "epoch": self.epoch,
            "value": self.value,
            "weights": self.weights,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.value = state["epoch"], state["value"]
        self.weights, self.history = dict(state["weights"]), list(state["history"])


@dataclass
class RuleSelection:
    """Keeps the weights that a stopping rule chooses from signals, without any label.

    Attributes:
        rule: Of `STOPPING_RULES`; what it keeps is the newest round or what it kept before.
        epoch: The round kept; None before the first.
        weights: Its weights, on the CPU.
        history: The signals of every round, the start first.
    """

    rule: Rule
    epoch: int | None = None
    weights: Weights = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def consider(self, epoch: int, validation: Mapping[str, float], model: nn.Module) -> None:
        """Keep the model if the rule wants the newest round."""
        self.history.append(dict(validation))
        newest = len(self.history) - 1
        if self.epoch is None or self.rule(self.history).epoch == newest:
            self.epoch, self.weights = epoch, weights_of(model)

    def stops(self) -> bool:
        """Whether the rule has decided."""
        return bool(self.history) and self.rule(self.history).stop

    def state_dict(self) -> dict[str, Any]:
        """Give what a resume needs; the weights apart, numbers only."""
        return {"epoch": self.epoch, "weights": self.weights, "history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch = state["epoch"]
        self.weights, self.history = dict(state["weights"]), list(state["history"])


def weights_of(model: nn.Module) -> Weights:
    """Copy a model's weights and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
