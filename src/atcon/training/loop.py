"""The training loop: a schedule of steps, validated every epoch, best epoch kept, resumable."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atcon.errors import AtconError
from atcon.training.steps import Batch, Outcome, Schedule, Step, seed_of

Validation = Callable[[], Mapping[str, float]]
Weights = dict[str, Tensor]


class Backend(Protocol):
    """What the loop needs of Lightning Fabric."""

    def backward(self, tensor: Tensor) -> None:
        """Backpropagate, with the scaling that the precision asks for."""


class Observer(Protocol):
    """Who is told about the progress of a stage."""

    def step(self, epoch: int, done: int, logged: Mapping[str, float]) -> None:
        """After every optimiser step."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """After every validation, with the line of `metrics.jsonl`."""


@dataclass
class Selection:
    """Keeps the weights of the best epoch; ties go to the earlier one.

    Attributes:
        metric: The validation metric to maximise.
        epoch: The epoch kept; None before the first.
        value: Its metric.
        weights: Its weights, on the CPU.
    """

    metric: str
    epoch: int | None = None
    value: float = -math.inf
    weights: Weights = field(default_factory=dict)

    def consider(self, epoch: int, validation: Mapping[str, float], model: nn.Module) -> None:
        """Keep the model if it beats the best epoch; an epoch as good as the start replaces it.

        A metric that is not defined (NaN) is worse than any other.
        """
        value = validation[self.metric]
        better = value >= self.value if self.epoch == 0 else value > self.value
        if self.epoch is None or better or math.isnan(self.value):
            self.epoch, self.value = epoch, value
            self.weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


@dataclass
class TrainingState:
    """Everything that a resumed stage needs; random numbers are derived from seed and epoch."""

    model: nn.Module
    optimizer: Optimizer
    selection: Selection
    epoch: int = 0
    start: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Give tensors and plain values only, so that the file loads with weights_only."""
        return {
            "epoch": self.epoch,
            "start": self.start,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": {
                "epoch": self.selection.epoch,
                "value": self.selection.value,
                "weights": self.selection.weights,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.epoch, self.start, self.seconds = state["epoch"], state["start"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        best = state["best"]
        self.selection.epoch, self.selection.value = best["epoch"], best["value"]
        self.selection.weights = dict(best["weights"])


def fit(
    state: TrainingState,
    schedule: Schedule,
    validate: Validation,
    *,
    epochs: int,
    seed: int,
    backend: Backend,
    observer: Observer,
    keep_start: bool,
    save: Callable[[TrainingState], None] = lambda _state: None,
) -> TrainingState:
    """Train until `epochs`, from wherever `state` stands; its selection holds the result.

    Args:
        state: Fresh, or loaded from a save.
        schedule: Gives the steps of an epoch.
        validate: Evaluates the model as it is now; must hold the selection's metric.
        epochs: The last epoch.
        seed: Dropout and other global randomness of epoch k depend on it and on k only.
        backend: Lightning Fabric.
        observer: Told after every step and every epoch.
        keep_start: Whether the model at the start is a candidate (epoch 0): then a later epoch is
            chosen only if it is no worse.
        save: Called after every epoch with everything that a resume needs.

    Raises:
        AtconError: A loss is not finite; the message names the images.
    """
    if keep_start and not state.start:
        state.start = dict(validate())
        state.selection.consider(0, state.start, state.model)
    for epoch in range(state.epoch + 1, epochs + 1):
        began = time.perf_counter()
        logged = _run_epoch(state, schedule, epoch, seed, backend, observer)
        validation = dict(validate())
        state.epoch = epoch
        state.selection.consider(epoch, validation, state.model)
        elapsed = time.perf_counter() - began
        state.seconds += elapsed
        observer.epoch({"epoch": epoch, **logged, "validation": validation, "seconds": elapsed})
        save(state)
    return state


def _run_epoch(
    state: TrainingState,
    schedule: Schedule,
    epoch: int,
    seed: int,
    backend: Backend,
    observer: Observer,
) -> dict[str, float | None]:
    """Take the epoch's steps; give the means of what they logged."""
    totals: dict[str, list[float]] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "epoch", epoch))
        for done, (step, batch) in enumerate(schedule(epoch), 1):
            outcome = _take(step, batch, state.optimizer, backend)
            values = {"loss": float(outcome.loss.detach()), **outcome.logged}
            for key, value in values.items():
                totals.setdefault(key, []).append(value)
            observer.step(epoch, done, values)
    return {key: _mean(values) for key, values in totals.items()}


def _take(step: Step, batch: Batch, optimizer: Optimizer, backend: Backend) -> Outcome:
    optimizer.zero_grad(set_to_none=True)
    outcome = step(batch)
    if not bool(torch.isfinite(outcome.loss.detach())):
        raise AtconError(
            f"the loss became {float(outcome.loss.detach())} on {', '.join(batch.names)}: "
            "lower the learning rate, or look at these images; the last saved epoch is intact"
        )
    backend.backward(outcome.loss)
    optimizer.step()
    return outcome


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
