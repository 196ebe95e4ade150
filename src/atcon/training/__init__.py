"""The loop, the steps and schedules that strategies are made of, and which round is kept."""

from atcon.training.averaging import Average
from atcon.training.batch_norm import StageBatchNorm, batch_norm_policy, step_policy
from atcon.training.finite import check_values
from atcon.training.groups import parameter_groups
from atcon.training.loop import Observer, TrainingState, fit
from atcon.training.memory import Halves, Relief, halve_largest, in_parts
from atcon.training.padding import PADDINGS, check_padding, set_padding
from atcon.training.processes import ALONE, Addend, Processes, divided, together
from atcon.training.rates import RATES, rate_scheduler
from atcon.training.rounds import Rounds
from atcon.training.selection import Keeps, RuleSelection, Selection
from atcon.training.signals import SIGNALS, Probe
from atcon.training.steps import (
    Batch,
    BatchNormPolicy,
    Outcome,
    Schedule,
    Step,
    SupervisedLoss,
    consistency_step,
    cross_entropy,
    every_batch,
    freeze_batch_norm,
    generator_of,
    seed_of,
    supervised_step,
)
from atcon.training.stopping import STOPPING_RULES, Rule, rule_named
from atcon.training.strategies import (
    STRATEGIES,
    Batches,
    alternated,
    combined,
    endless,
    fixed_turns,
    random_turns,
)

__all__ = [
    "ALONE",
    "PADDINGS",
    "RATES",
    "SIGNALS",
    "STOPPING_RULES",
    "STRATEGIES",
    "Addend",
    "Average",
    "Batch",
    "BatchNormPolicy",
    "Batches",
    "Halves",
    "Keeps",
    "Observer",
    "Outcome",
    "Probe",
    "Processes",
    "Relief",
    "Rounds",
    "Rule",
    "RuleSelection",
    "Schedule",
    "Selection",
    "StageBatchNorm",
    "Step",
    "SupervisedLoss",
    "TrainingState",
    "alternated",
    "batch_norm_policy",
    "check_padding",
    "check_values",
    "combined",
    "consistency_step",
    "cross_entropy",
    "divided",
    "endless",
    "every_batch",
    "fit",
    "fixed_turns",
    "freeze_batch_norm",
    "generator_of",
    "halve_largest",
    "in_parts",
    "parameter_groups",
    "random_turns",
    "rate_scheduler",
    "rule_named",
    "seed_of",
    "set_padding",
    "step_policy",
    "supervised_step",
    "together",
]
