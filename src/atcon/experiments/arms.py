"""The arms of a run: the method under its strategies, its control, and what it is compared with.

An arm is a plan for one stage and the stage whose weights it starts from. What is fine-tuned has
the data, the length and the optimiser of the method's own fine-tuning, so that effort is equal.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from atcon.experiments.baseline_arms import (
    fixmatch,
    laso,
    layer_attention,
    layer_attention_full,
    layer_attention_ours,
    simclr_pretraining,
)
from atcon.experiments.bench import Bench
from atcon.experiments.config import variant_of
from atcon.experiments.method_arms import (
    alternated_strategy,
    combined_strategy,
    fine_tuning,
    uniform,
)
from atcon.experiments.monitoring import monitored
from atcon.experiments.sections import RunConfig
from atcon.experiments.stages import Plan
from atcon.experiments.supervised_arms import (
    continued,
    linear_probe,
    no_augmentation,
    supervised,
)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: For tables.
        plan: Makes the plan of its stage.
        start: The stage it starts from; None for the weights before any training.
        judged: Whether it is evaluated; a mere step on the way is not.
        divisible: Whether several processes can have parts of its batches.
    """

    title: str
    plan: Callable[[Bench], Plan]
    start: str | None = "supervised"
    judged: bool = True
    divisible: bool = True


BASELINES: dict[str, Arm] = {
    "continued": Arm("supervised training continued", continued),
    "no_augmentation": Arm("no augmentation", no_augmentation, None),
    "linear_probe": Arm("linear probe", linear_probe, None),
    "fine_tuning": Arm("ours, fine-tuning", fine_tuning),
    "combined": Arm("ours, combined", combined_strategy, None),
    "alternated": Arm("ours, alternated", alternated_strategy, None),
    "layer_attention": Arm("layer attention (L_AC)", layer_attention),
    "layer_attention_full": Arm("layer attention (full)", layer_attention_full, None),
    "layer_attention_ours": Arm("layer attention + ours", layer_attention_ours),
    "simclr": Arm("SimCLR", supervised, "simclr_pretraining"),
    "simclr_ours": Arm("SimCLR + ours", fine_tuning, "simclr"),
    "laso": Arm("LaSO", laso, divisible=False),
    "fixmatch": Arm("FixMatch", fixmatch, divisible=False),
}
"""What the key `baselines` takes: alternatives that a run trains and judges beside the method."""

_STEPS_ON_THE_WAY = {
    "simclr_pretraining": Arm(
        "SimCLR pretraining", simclr_pretraining, None, judged=False, divisible=False
    ),
}

RESERVED = frozenset({"supervised", "consistency", "uniform", *BASELINES, *_STEPS_ON_THE_WAY})
"""What no variant may be called."""


def arms_of(config: RunConfig) -> dict[str, Arm]:
    """Give the arms of a run in the order of training, each after the one it starts from."""
    ours = BASELINES[config.strategy]
    chosen = {
        "supervised": Arm("supervised", monitored, None),
        "consistency": replace(ours, title="consistency"),
    }
    if config.controls.uniform:
        chosen["uniform"] = Arm("uniform mask", uniform, ours.start)
    chosen |= {name: _variant(config, name) for name in config.variants}
    chosen |= {name: BASELINES[name] for name in config.baselines}
    known = {**_STEPS_ON_THE_WAY, **BASELINES}
    ordered: dict[str, Arm] = {}

    def add(name: str, arm: Arm) -> None:
        if arm.start is not None and arm.start not in ordered:
            below = chosen.get(arm.start)
            add(arm.start, below or replace(known[arm.start], judged=False))
        ordered[name] = arm

    for name, arm in chosen.items():
        if name not in ordered:
            add(name, arm)
    return ordered


def _variant(config: RunConfig, name: str) -> Arm:
    """Fine-tune as a variant says; all else, and what is drawn at random, is as for the method."""
    changed = variant_of(config, name)
    return Arm(name.replace("_", " "), lambda bench: fine_tuning(replace(bench, config=changed)))
