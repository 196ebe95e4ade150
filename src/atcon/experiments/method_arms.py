"""Plans of the method: its loss as configured, its three strategies, and its control."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from atcon.consistency import MATCHINGS, ConsistencyLoss, MaskOptions, update_teacher
from atcon.errors import InputError
from atcon.experiments.bench import (
    Bench,
    labelled_batches,
    labelled_count,
    seeded,
    step_of,
    unlabelled_batches,
    unlabelled_count,
)
from atcon.experiments.sections import ConsistencyConfig, RunConfig, StageConfig
from atcon.experiments.stages import Plan
from atcon.experiments.supervised_arms import supervised_step_of
from atcon.training import (
    Batch,
    Batches,
    Outcome,
    Schedule,
    Step,
    SupervisedLoss,
    alternated,
    combined,
    consistency_step,
    every_batch,
    fixed_turns,
    random_turns,
)


def fine_tuning(bench: Bench) -> Plan:
    """Fine-tune for consistency, without labels (section 4.2)."""
    return _fine_tuning(bench, uniform=False)


def uniform(bench: Bench) -> Plan:
    """The control: the strategy of the method with P = 0.5 everywhere, which masks nothing."""
    return _PLANS[bench.config.strategy](bench, uniform=True)


def combined_strategy(bench: Bench) -> Plan:
    """Train for labels and consistency in every step, from the weights before any training."""
    return _combined(bench, uniform=False)


def alternated_strategy(bench: Bench) -> Plan:
    """Train for labels or consistency, batch by batch, from the weights before any training."""
    return _alternated(bench, uniform=False)


def consistency_loss(
    config: RunConfig,
    model: nn.Module,
    layer: str | None,
    *,
    uniform: bool = False,
    multi_label: bool = False,
    teacher: nn.Module | None = None,
) -> ConsistencyLoss:
    """The loss that the configuration asks for; the control's has a uniform mask."""
    settings = config.consistency
    matching, maps, mask, options = settings.matching, settings.maps, settings.mask, MaskOptions()
    if uniform:
        mask = "uniform"
        if matching is not None and MATCHINGS[matching].by != "mask":  # dimming needs a mask
            matching, maps = "mask", maps or MATCHINGS[matching].maps
    else:
        options = mask_options_of(settings)
    return ConsistencyLoss(
        model,
        layer,
        preset=settings.preset,
        maps=maps,
        matching=matching,
        mask=mask,
        mask_options=options,
        correlation=settings.correlation,
        detach_mask=settings.detach_mask,
        squash=settings.squash,
        mirror=settings.mirror,
        logit_weight=settings.logit_weight,
        multi_label=multi_label,
        teacher=teacher,
        target=settings.target,
        batch_statistics=settings.batch_norm == "batch",
        micro_batch=settings.micro_batch,
        generator=torch.Generator(),
    )


def mask_options_of(settings: ConsistencyConfig) -> MaskOptions:
    """Give what a configuration says of its masks beside their kind."""
    return MaskOptions(
        smooth=settings.mask_smooth,
        slope=settings.mask_slope,
        value=settings.mask_value,
        floor=settings.mask_floor,
        strength=_number_or_range(settings.mask_strength),
        temperature=_number_or_range(settings.mask_temperature),
        noise=settings.mask_noise,
        scales=settings.mask_scales,
        anneal=settings.mask_anneal,
    )


def _fine_tuning(bench: Bench, *, uniform: bool) -> Plan:
    settings = bench.config.consistency
    loss, step, batches = _consistency(bench, uniform=uniform)
    return _unsupervised_plan(
        bench, loss, every_batch(step, batches), unlabelled_count(bench, settings)
    )


def _combined(bench: Bench, *, uniform: bool) -> Plan:
    settings = bench.config.supervised
    loss, step, batches = _consistency(bench, uniform=uniform)
    labels, own = supervised_step_of(bench, settings)
    schedule = combined(
        own,
        step,
        labelled=labelled_batches(bench, "supervised", settings.batch_size),
        unlabelled=batches,
        weight=bench.config.consistency.weight,
    )
    count = labelled_count(bench, settings)
    return _from_scratch(_unsupervised_plan(bench, loss, schedule, count), settings, labels)


def _alternated(bench: Bench, *, uniform: bool) -> Plan:
    settings, ours = bench.config.supervised, bench.config.consistency
    loss, step, batches = _consistency(bench, uniform=uniform)
    labels, labelled_step = supervised_step_of(bench, settings)
    own = labelled_count(bench, settings)
    others = unlabelled_count(bench, ours)
    if ours.turns == "fixed":
        first, second = ours.ratio
        steps = own + -(-own * second // max(first, 1))
        turns: Callable[[int], list[bool]] = fixed_turns(steps, ours.ratio)
    else:
        steps = own + others
        turns = random_turns(
            steps,
            len(bench.train.examples),
            len(bench.unlabelled_pixels),
            seed=bench.config.seed,
            alpha=ours.alpha,
        )
    schedule = alternated(
        labelled_step,
        step,
        labelled=labelled_batches(bench, "supervised", settings.batch_size),
        unlabelled=batches,
        turns=turns,
    )
    return _from_scratch(_unsupervised_plan(bench, loss, schedule, steps), settings, labels)


def _consistency(bench: Bench, *, uniform: bool) -> tuple[ConsistencyLoss, Step, Batches]:
    """The loss, its step, and the batches it is asked of, with the draws of its masks seeded."""
    loss = consistency_loss(
        bench.config,
        bench.network.module,
        bench.layer,
        uniform=uniform,
        multi_label=bench.multi_label,
        teacher=_teacher(bench),
    )
    step = step_of(bench, loss, lambda module: consistency_step(module, loss))
    if loss.teacher is not None:
        step = _teaching(step, loss.teacher, bench)
    batches = unlabelled_batches(bench, "consistency", bench.config.consistency.batch_size)
    if loss.generator is not None:
        batches = seeded(bench, batches, loss.generator, "strength")
    return loss, step, batches


def _teacher(bench: Bench) -> nn.Module | None:
    """Copy the network as it starts; the copy follows it by `consistency.teacher`."""
    if bench.config.consistency.teacher is None:
        return None
    return copy.deepcopy(bench.network.module).requires_grad_(requires_grad=False)


def _teaching(step: Step, teacher: nn.Module, bench: Bench) -> Step:
    """Let the teacher follow before every step what the step before has made of the network."""
    decay, last = bench.config.consistency.teacher, list[Batch]()

    def taught(batch: Batch) -> Outcome:
        again = bool(last) and last[0] is batch  # it was cut short, so the network is as it was
        if decay is not None and not again:
            update_teacher(teacher, bench.network.module, decay)
        last[:] = [batch]
        return step(batch)

    return taught


def _unsupervised_plan(
    bench: Bench, loss: ConsistencyLoss, schedule: Schedule, batches: int
) -> Plan:
    settings = bench.config.consistency
    choose = {"auto": "rule", "validation": "labels"}.get(settings.stopping, settings.stopping)
    if choose == "labels" and bench.validation is None:
        raise InputError(
            "consistency.stopping = 'validation' needs labelled validation images: set "
            "data.validation_images, or choose a rule (atcon list stopping)"
        )
    return Plan(
        settings,
        schedule,
        batches,
        parts=nn.ModuleDict({} if loss.teacher is None else {"teacher": loss.teacher}),
        progress=lambda share: setattr(loss, "progress", share),
        losses=(loss,),
        choose=choose,
        signals=settings.signals,
        method=loss.method if settings.signals or choose.startswith("consistency") else None,
    )


def _from_scratch(plan: Plan, settings: StageConfig, labels: SupervisedLoss) -> Plan:
    """A strategy that has no supervised stage before it has that stage's length and optimiser."""
    return replace(
        plan,
        settings=settings,
        keep_start=False,
        choose="labels",
        losses=(*plan.losses, labels),
    )


def _number_or_range(ends: tuple[float, float]) -> float | tuple[float, float]:
    """Give the number that a range of it alone stands for."""
    return ends[0] if ends[0] == ends[1] else ends


_PLANS: dict[str, Callable[..., Plan]] = {
    "fine_tuning": _fine_tuning,
    "combined": _combined,
    "alternated": _alternated,
}
