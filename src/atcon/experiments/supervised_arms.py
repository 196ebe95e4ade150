"""Plans on the labels alone: the supervised stage, and the plainest things to do instead."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from atcon.experiments.bench import (
    Bench,
    labelled_batches,
    labelled_count,
    step_of,
    unlabelled_count,
)
from atcon.experiments.sections import StageConfig
from atcon.experiments.stages import Plan
from atcon.training import (
    Batch,
    Step,
    SupervisedLoss,
    endless,
    every_batch,
    step_policy,
    supervised_step,
)


def supervised(bench: Bench, augmentation: str | None = None) -> Plan:
    """Train on the labels; the epoch of the best validation mAP is kept."""
    settings = bench.config.supervised
    batches = labelled_batches(bench, "supervised", settings.batch_size, augmentation)
    loss, step = supervised_step_of(bench, settings)
    return Plan(
        settings,
        every_batch(step, batches),
        labelled_count(bench, settings),
        keep_start=False,
        choose="labels",
        losses=(loss,),
    )


def no_augmentation(bench: Bench) -> Plan:
    """The same on the images as they are."""
    return supervised(bench, "none")


def linear_probe(bench: Bench) -> Plan:
    """Train the head alone, on the features of the network as it came."""
    head = bench.network.head
    return replace(supervised(bench), only=lambda name: name.startswith(f"{head}."))


def continued(bench: Bench) -> Plan:
    """Go on with the labels, with the data, the steps and the optimiser of the fine-tuning."""
    settings = bench.config.consistency
    loss, step = supervised_step_of(bench, settings)
    own = labelled_batches(bench, "consistency", settings.batch_size)
    steps = unlabelled_count(bench, settings)

    def schedule(epoch: int) -> Iterator[tuple[Step, Batch]]:
        return ((step, batch) for batch in islice(endless(own, epoch), steps))

    return Plan(settings, schedule, steps, losses=(loss,))


def supervised_step_of(bench: Bench, settings: StageConfig) -> tuple[SupervisedLoss, Step]:
    """Make the supervised loss of a stage, and its step."""
    loss = SupervisedLoss(
        bench.network.module,
        multi_label=bench.multi_label,
        batch_norm=step_policy(settings.batch_norm),
    )
    return loss, step_of(bench, loss, supervised_step)
