"""Rounds: how the batches of a stage are cut into pieces, each of which ends with a validation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from atcon.training.steps import Batch, Schedule, Step


@dataclass(frozen=True)
class Rounds:
    """The cuts of a stage.

    Attributes:
        epochs: How often the stage goes through its data.
        batches: Steps in an epoch.
        every: Steps in a round; the last one may be shorter.
    """

    epochs: int
    batches: int
    every: int

    @classmethod
    def of_epochs(cls, epochs: int, batches: int, every: int = 1) -> "Rounds":
        """Validate after every so many epochs, and at the end."""
        return cls(epochs, batches, every * batches)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.batches

    @property
    def count(self) -> int:
        """How many rounds there are."""
        return -(-self.steps // self.every)

    def epoch_at(self, number: int) -> float:
        """Epochs done after a round: a whole number where the round ends with one."""
        done = min(number * self.every, self.steps)
        whole, rest = divmod(done, self.batches)
        return whole if rest == 0 else round(done / self.batches, 3)

    def steps_after(self, number: int) -> int:
        """Steps still to come after a round."""
        return self.steps - min(number * self.every, self.steps)

    def cut(self, schedule: Schedule) -> Schedule:
        """Turn a schedule of epochs into one of rounds: round r has its share of their steps."""
        return lambda number: self._steps_of(schedule, number)

    def _steps_of(self, schedule: Schedule, number: int) -> Iterator[tuple[Step, Batch]]:
        start = (number - 1) * self.every
        end = min(start + self.every, self.steps)
        while start < end:
            epoch, skipped = divmod(start, self.batches)
            taken: Iterable[tuple[Step, Batch]] = islice(
                schedule(epoch + 1), skipped, skipped + end - start
            )
            yield from taken
            start = min(end, (epoch + 1) * self.batches)
