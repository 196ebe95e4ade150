"""The training loop: a schedule of steps, validated every round, one round kept, resumable.

A round is an epoch unless a stage is cut otherwise (`Rounds`).
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from atcon.training.averaging import Average
from atcon.training.finite import GradientCheck, check_loss, check_values
from atcon.training.memory import NO_RELIEF, Relief, within_memory
from atcon.training.processes import ALONE, Processes
from atcon.training.selection import Keeps
from atcon.training.steps import Batch, Outcome, Schedule, Step, seed_of

Validation = Callable[[], Mapping[str, float]]


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
class TrainingState:
    """Everything that a resumed stage needs; random numbers are derived from seed and round.

    Attributes:
        model: What is validated and kept.
        optimizer: Of the stage.
        selection: Which round is kept.
        rates: The schedule of the learning rate; None leaves it as it is.
        average: The running average of the weights, which is then what is validated and kept.
        parts: Further modules that are trained and saved with the model, such as a projection head.
        epoch: Rounds done.
        start: What was measured before the first step.
        seconds: Of training and validation.
    """

    model: nn.Module
    optimizer: Optimizer
    selection: Keeps
    rates: LRScheduler | None = None
    average: Average | None = None
    parts: nn.ModuleDict = field(default_factory=nn.ModuleDict)
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
            "parts": self.parts.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict() if self.rates else None,
            "average": self.average.state_dict() if self.average else None,
            "selection": self.selection.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.epoch, self.start, self.seconds = state["epoch"], state["start"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.parts.load_state_dict(state["parts"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rates:
            self.rates.load_state_dict(state["rates"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.selection.load_state_dict(state["selection"])

    def judged(self) -> AbstractContextManager[object]:
        """Within it, the model has the weights that are validated and kept."""
        return self.average.applied(self.model) if self.average else nullcontext()


def fit(  # noqa: PLR0913  what a stage is, who watches it, and who saves it
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
    label: Callable[[int], float] = lambda number: number,
    processes: Processes = ALONE,
    scaled: bool = False,
    relief: Relief = NO_RELIEF,
) -> TrainingState:
    """Train until `epochs`, from wherever `state` stands; its selection holds the result.

    Args:
        state: Fresh, or loaded from a save.
        schedule: Gives the steps of a round.
        validate: Evaluates the model as it is now; must hold what the selection looks at.
        epochs: The last round.
        seed: Dropout and other global randomness of round k depend on it and on k only.
        backend: Lightning Fabric.
        observer: Told after every step and every round.
        keep_start: Whether the model at the start is a candidate (epoch 0): then a later epoch is
            chosen only if it is no worse.
        save: Called after every round with everything that a resume needs.
        label: What the records call a round: the epochs done after it.
        processes: Those that share every batch; the first one validates and saves.
        scaled: Whether the precision scales the loss (float16): its gradients may then overflow,
            and the backend's optimizer leaves such a step out and scales less; a long row of them
            is an error too.
        relief: Asked when the memory of the device runs out in a step, which is then taken again
            from its beginning.

    Raises:
        AtconError: A loss or a gradient is not finite; the message names the images. Or what is
            saved would not be, or the memory is not enough.
    """
    take = partial(_take, state, backend, processes, GradientCheck(scaled=scaled), relief)
    check_values(state.state_dict(), f"after {state.epoch} epochs")
    if keep_start and state.epoch == 0 and not state.start:
        state.start = processes.same(lambda: dict(validate()))
        state.selection.consider(0, state.start, state.model)
    while state.epoch < epochs and not state.selection.stops():
        number = state.epoch + 1
        began = time.perf_counter()
        logged = _run_epoch(take, schedule, number, seed, observer, processes)
        check_values(state.state_dict(), f"after epoch {label(number):g}")
        with state.judged():
            validation = processes.same(lambda: dict(validate()))
            state.selection.consider(number, validation, state.model)
        state.epoch = number
        elapsed = time.perf_counter() - began
        state.seconds += elapsed
        observer.epoch(
            {"epoch": label(number), **logged, "validation": validation, "seconds": elapsed}
        )
        if processes.first:
            save(state)
    return state


def _run_epoch(
    take: Callable[[Step, Batch], dict[str, float]],
    schedule: Schedule,
    epoch: int,
    seed: int,
    observer: Observer,
    processes: Processes,
) -> dict[str, float | None]:
    """Take the epoch's steps; give the means of what they logged.

    Each process has random numbers of its own, as its images have: dropout of different images is
    drawn apart.
    """
    totals: dict[str, list[float]] = {}
    with torch.random.fork_rng():
        own = () if processes.first else ("process", processes.rank)
        torch.manual_seed(seed_of(seed, "epoch", epoch, *own))
        for done, (step, batch) in enumerate(schedule(epoch), 1):
            values = take(step, batch)
            for key, value in values.items():
                totals.setdefault(key, []).append(value)
            observer.step(epoch, done, values)
    return {key: _mean(values) for key, values in totals.items()}


def _take(
    state: TrainingState,
    backend: Backend,
    processes: Processes,
    gradients: GradientCheck,
    relief: Relief,
    step: Step,
    batch: Batch,
) -> dict[str, float]:
    """Take a step; give its loss, and what it logged, of the batch of all processes.

    A process looks at its own gradients, before they are added: it alone knows the images.
    """
    weights = [weight for group in state.optimizer.param_groups for weight in group["params"]]

    def differentiated() -> Outcome:
        state.optimizer.zero_grad(set_to_none=True)
        outcome = step(batch)
        check_loss(outcome, step, batch)
        backend.backward(outcome.loss)
        return outcome

    outcome = within_memory(differentiated, relief, batch)
    gradients.check(weights, step, batch, outcome)
    addends = {"loss": float(outcome.loss.detach()), **outcome.logged}
    values = processes.add_up(addends, weights)
    state.optimizer.step()
    if state.rates:
        state.rates.step()
    if state.average:
        state.average.update(state.model)
    return values


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
