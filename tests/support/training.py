"""A stage of training on a few pictures, for the laws of the loop."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from nets import stages
from tiny import pictures
from torch import Tensor, nn

from atcon.consistency import ConsistencyLoss
from atcon.training import (
    Batch,
    Schedule,
    Selection,
    Step,
    SupervisedLoss,
    TrainingState,
    alternated,
    combined,
    consistency_step,
    every_batch,
    fit,
    fixed_turns,
    generator_of,
    supervised_step,
)

IMAGES, SIZE = 8, 4
"""Of the images, and of a batch: an epoch has two steps, of two losses in turn four."""


class Plain:
    """What the loop needs of Lightning Fabric."""

    def backward(self, tensor: Tensor) -> None:
        tensor.backward()


@dataclass
class Notes:
    """An observer that writes everything down."""

    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def step(self, epoch: int, done: int, logged: Mapping[str, float]) -> None:
        self.steps.append((epoch, done, dict(logged)))

    def epoch(self, record: Mapping[str, Any]) -> None:
        self.epochs.append(dict(record))


def without_dropout(model: nn.Module) -> nn.Module:
    """Let nothing of a model be drawn at random."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def batches_of(dtype: torch.dtype, size: int = SIZE) -> Callable[[int], Iterator[Batch]]:
    """Give eight pictures, `0.png` to `7.png`, in an order that depends on the epoch."""
    images, labels = pictures(IMAGES, dtype=dtype), torch.eye(4, dtype=dtype).repeat(2, 1)

    def batches(epoch: int) -> Iterator[Batch]:
        order = torch.randperm(IMAGES, generator=generator_of(0, "order", epoch))
        for part in order.split(size):
            yield Batch(images[part], labels[part], tuple(f"{i}.png" for i in part.tolist()))

    return batches


@dataclass
class Stage:
    """A network in training.

    Attributes:
        kind: "supervised", or the name of a strategy.
        dtype: Of weights and images.
        batch_norm: The policy of the supervised loss.
        size: Of a batch.
        rate: The learning rate.
        options: Of the consistency loss.
    """

    kind: str = "fine_tuning"
    dtype: torch.dtype = torch.float64
    batch_norm: str = "frozen"
    size: int = SIZE
    rate: float = 1e-2
    options: dict[str, Any] = field(default_factory=dict)
    model: nn.Module = field(init=False)
    state: TrainingState = field(init=False)
    saved: list[bytes] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self.model = stages(self.dtype)
        optimizer = torch.optim.Adam(self.model.parameters(), self.rate)
        self.state = TrainingState(self.model, optimizer, Selection("map"))
        self.labels = SupervisedLoss(self.model, multi_label=True, batch_norm=self.batch_norm)
        self.maps = ConsistencyLoss(self.model, **self.options)

    def schedule(self, around: Callable[[Step], Step] = lambda step: step) -> Schedule:
        """Give the steps of an epoch, each as `around` makes it."""
        own = around(supervised_step(self.labels))
        ours = around(consistency_step(self.maps, self.maps))
        data = batches_of(self.dtype, self.size)
        if self.kind == "supervised":
            return every_batch(own, data)
        if self.kind == "combined":
            return combined(own, ours, labelled=data, unlabelled=data)
        if self.kind == "alternated":
            turns = fixed_turns(4)
            return alternated(own, ours, labelled=data, unlabelled=data, turns=turns)
        return every_batch(ours, data)

    def train(self, epochs: int, schedule: Schedule | None = None, **options: Any) -> "Stage":
        """Go on to an epoch, saving every one; the first is kept."""
        given = {"backend": Plain(), "observer": self.notes, **options}
        fit(
            self.state,
            schedule or self.schedule(),
            lambda: {"map": 1.0},
            epochs=epochs,
            seed=7,
            keep_start=False,
            save=self._save,
            **given,
        )
        return self

    def resume(self, saved: bytes) -> "Stage":
        """Continue from a save."""
        self.state.load_state_dict(torch.load(io.BytesIO(saved), weights_only=True))
        return self

    def weights(self) -> dict[str, Tensor]:
        """Copy weights and buffers."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _save(self, state: TrainingState) -> None:
        held = io.BytesIO()
        torch.save(state.state_dict(), held)
        self.saved.append(held.getvalue())


def tensors_of(saved: bytes) -> Iterable[Tensor]:
    """Give every tensor of a save."""

    def walk(values: Any) -> Iterator[Tensor]:
        if isinstance(values, Tensor):
            yield values
        elif isinstance(values, Mapping):
            for value in values.values():
                yield from walk(value)
        elif isinstance(values, list | tuple):
            for value in values:
                yield from walk(value)

    return walk(torch.load(io.BytesIO(saved), weights_only=True))


def furthest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Give the largest difference between two sets of weights."""
    assert found.keys() == expected.keys()
    return max(
        float((found[name].double() - value.double()).abs().max())
        for name, value in expected.items()
    )
