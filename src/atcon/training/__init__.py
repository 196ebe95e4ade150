"""The loop, the steps that strategies are made of, and the selection of an epoch."""

from atcon.training.loop import Observer, Selection, TrainingState, fit
from atcon.training.steps import (
    Batch,
    BatchNormPolicy,
    Outcome,
    Schedule,
    Step,
    SupervisedLoss,
    consistency_step,
    every_batch,
    freeze_batch_norm,
    generator_of,
    seed_of,
    supervised_step,
)

__all__ = [
    "Batch",
    "BatchNormPolicy",
    "Observer",
    "Outcome",
    "Schedule",
    "Selection",
    "Step",
    "SupervisedLoss",
    "TrainingState",
    "consistency_step",
    "every_batch",
    "fit",
    "freeze_batch_norm",
    "generator_of",
    "seed_of",
    "supervised_step",
]
