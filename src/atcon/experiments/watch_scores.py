"""The consistency of many samples under one network, with what it predicts, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from lightning_fabric import Fabric

from atcon.consistency import ConsistencyLoss
from atcon.data import Decoded, ImageSet, OnBadImage, Reader, stream
from atcon.errors import InputError
from atcon.experiments.bench import inputs_of, squash_logits
from atcon.experiments.finished import FinishedRun
from atcon.experiments.judge import judging_loss
from atcon.experiments.progress import Progress
from atcon.experiments.setup import fabric_of, size_of
from atcon.models import Network
from atcon.plain_text import printable
from atcon.training import in_parts
from atcon.types import Example

NOT_FINITE = "its consistency is not a finite number; try --precision 32-true"


@dataclass(frozen=True)
class Watcher:
    """A network of a run and the consistency that it is watched by."""

    opened: FinishedRun
    fabric: Fabric
    network: Network
    loss: ConsistencyLoss


@dataclass(frozen=True)
class Scores:
    """What a network says of samples, in their order.

    Attributes:
        examples: The samples that could be read.
        consistency: Of the top class, `[n]`.
        probabilities: `[n, class]`.
        hashes: SHA-256 by name.
        skipped: Name and reason of the samples that could not be read.
    """

    examples: tuple[Example, ...]
    consistency: np.ndarray
    probabilities: np.ndarray
    hashes: dict[str, str]
    skipped: tuple[tuple[str, str], ...]

    @property
    def top(self) -> np.ndarray:
        """Index of the top class."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> np.ndarray:
        """Its probability."""
        return np.asarray(self.probabilities.max(axis=1))

    def __len__(self) -> int:
        return len(self.examples)


@dataclass
class _Growing:
    examples: list[Example] = field(default_factory=list)
    consistency: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, batch: Decoded, consistency: np.ndarray, probabilities: np.ndarray) -> None:
        """Keep what is finite of a batch, and name the rest."""
        fine = np.isfinite(consistency) & np.isfinite(probabilities).all(axis=1)
        self.consistency.append(consistency[fine])
        self.probabilities.append(probabilities[fine])
        for example, good in zip(batch.examples, fine, strict=True):
            if good:
                self.examples.append(example)
            else:
                self.skipped.append((example.name, NOT_FINITE))
        self.hashes.update(batch.hashes)


def watcher_of(opened: FinishedRun, stage: str) -> Watcher:
    """Set up the network of a stage with the consistency of its run, with fixed BatchNorm.

    Raises:
        InputError: The run has no such stage, or there is no such device.
    """
    fabric = fabric_of(opened.config)
    network = opened.network(stage, fabric)
    # with the statistics of the batch a score would depend on the other samples
    settings = opened.config.consistency.model_copy(update={"batch_norm": "frozen"})
    config = opened.config.model_copy(update={"consistency": settings})
    loss = judging_loss(config, network, opened.record["model"]["layer"])
    return Watcher(opened, fabric, network, loss)


def scores_of(
    watcher: Watcher,
    image_set: ImageSet,
    examples: Sequence[Example],
    *,
    title: str,
    policy: OnBadImage,
    progress: Progress,
) -> Scores:
    """Decode the samples batch by batch and keep one line of numbers of each.

    Args:
        watcher: The network and its consistency.
        image_set: Where the samples are read.
        examples: Which.
        title: Of the bar.
        policy: "skip" leaves out what cannot be read, "error" stops.
        progress: Told about every batch, and what was skipped.

    Raises:
        BadImageError: A sample cannot be read and the policy is "error".
        InputError: None can be read, or none has a finite consistency.
    """
    config = watcher.opened.config
    reader = Reader(image_set, size_of(config, watcher.network))
    grown = _Growing()
    progress.begin(title, len(examples), image_set.unit)
    for batch in stream(reader, examples, config.evaluation.batch_size, policy):
        before = len(grown.skipped)
        grown.skipped += batch.skipped
        count = len(batch.examples)
        for rows, seen in in_parts(partial(_asked, watcher, batch), count, count):
            grown.add(batch.rows(rows), *seen)
        for name, reason in grown.skipped[before:]:
            progress.note(f"skipped {printable(name)}: {printable(reason)}")
        progress.advance({}, len(batch.examples) + len(batch.skipped))
    progress.end()
    if not grown.examples:
        raise InputError(f"{title}: {NOT_FINITE}")
    return Scores(
        tuple(grown.examples),
        np.concatenate(grown.consistency),
        np.concatenate(grown.probabilities),
        grown.hashes,
        tuple(grown.skipped),
    )


def _asked(watcher: Watcher, batch: Decoded, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Ask a network about some of a batch: consistency and probabilities."""
    images = inputs_of(batch.pixels[rows], watcher.network, watcher.fabric.device)
    with watcher.fabric.autocast():
        seen = watcher.loss.compare(images)
    multi_label = bool(watcher.opened.record["multi_label"])
    return (
        seen.correlation.detach().double().cpu().numpy(),
        squash_logits(seen.logits, multi_label=multi_label),
    )
