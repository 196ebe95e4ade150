"""The arms of a run: the method under its strategies, its control, and what it is compared with.

An arm is a plan for one stage and the stage whose weights it starts from. What is fine-tuned has
the data, the length and the optimiser of the method's own fine-tuning, so that effort is equal.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from atcon.baselines import (
    FixMatchLoss,
    LaSO,
    LaSOLoss,
    LayerAttentionLoss,
    SimCLRLoss,
    features_of,
    fit_classifier,
    fixmatch_step,
    laso_step,
    layer_attention_step,
    simclr_step,
    sum_of,
)
from atcon.consistency import MATCHINGS, ConsistencyLoss, MaskOptions, update_teacher
from atcon.data import VIEWS
from atcon.errors import InputError
from atcon.experiments.bench import (
    Bench,
    batch_count,
    inputs_of,
    labelled_batches,
    unlabelled_batches,
    view_batches,
)
from atcon.experiments.config import RunConfig, StageConfig
from atcon.experiments.stages import Plan
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
    generator_of,
    random_turns,
    seed_of,
    supervised_step,
)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: For tables.
        plan: Makes the plan of its stage.
        start: The stage it starts from; None for the weights before any training.
        judged: Whether it is evaluated; a mere step on the way is not.
    """

    title: str
    plan: Callable[[Bench], Plan]
    start: str | None = "supervised"
    judged: bool = True


def supervised(bench: Bench) -> Plan:
    """Train on the labels; the epoch of the best validation mAP is kept."""
    return _supervised(bench, bench.config.supervised, "supervised", keep_start=False)


def no_augmentation(bench: Bench) -> Plan:
    """The same on the images as they are."""
    return _supervised(
        bench, bench.config.supervised, "supervised", keep_start=False, augmentation="none"
    )


def linear_probe(bench: Bench) -> Plan:
    """Train the head alone, on the features of the network as it came."""
    head = bench.network.head
    plan = _supervised(bench, bench.config.supervised, "supervised", keep_start=False)
    return replace(plan, only=lambda name: name.startswith(f"{head}."))


def continued(bench: Bench) -> Plan:
    """Go on with the labels, with the data, the steps and the optimiser of the fine-tuning."""
    settings = bench.config.consistency
    step = _supervised_step(bench, settings)
    batches = batch_count(len(bench.unlabelled_pixels), settings.batch_size)
    own = labelled_batches(bench, "consistency", settings.batch_size)
    if bench.unlabelled is None:
        return Plan(settings, every_batch(step, own), batches)
    turns = fixed_turns(batches, (1, 0))
    schedule = alternated(step, step, labelled=own, unlabelled=own, turns=turns)
    return Plan(settings, schedule, batches)


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


def layer_attention(bench: Bench) -> Plan:
    """Fine-tune for layer attention consistency (L_AC alone: the row of table 2)."""
    settings = bench.config.consistency
    loss = _layer_attention_loss(bench, separability=False)
    step = layer_attention_step(bench.fabric.setup_module(loss), loss)
    batches = unlabelled_batches(bench, "consistency", settings.batch_size)
    return Plan(settings, every_batch(step, batches), _unlabelled_count(bench, settings))


def layer_attention_full(bench: Bench) -> Plan:
    """Train with the full method: the labels' loss + L_AC + L_AS of both layers."""
    settings = bench.config.supervised
    loss = _layer_attention_loss(bench, separability=True)
    weight = bench.config.layer_attention.weight
    layers = _weighted(layer_attention_step(bench.fabric.setup_module(loss), loss), weight)
    step = sum_of(_supervised_step(bench, settings), layers)
    batches = labelled_batches(bench, "supervised", settings.batch_size)
    count = batch_count(len(bench.train.examples), settings.batch_size)
    return Plan(settings, every_batch(step, batches), count, keep_start=False, choose="labels")


def layer_attention_ours(bench: Bench) -> Plan:
    """Fine-tune for both: consistency of our maps and of the layers'."""
    plan = fine_tuning(bench)
    loss = _layer_attention_loss(bench, separability=False)
    layers = layer_attention_step(bench.fabric.setup_module(loss), loss)

    def schedule(epoch: int) -> Iterator[tuple[Step, Batch]]:
        return ((sum_of(step, layers), batch) for step, batch in plan.schedule(epoch))

    return replace(plan, schedule=schedule)


def simclr_pretraining(bench: Bench) -> Plan:
    """Pretrain on two views of the same images; the last epoch is kept."""
    settings = bench.config.simclr
    loss = SimCLRLoss(
        bench.network.module,
        bench.network.head,
        temperature=settings.temperature,
        decoupled=settings.decoupled,
        queue_size=settings.queue,
        batch_norm="batch" if settings.batch_norm == "batch" else "frozen",
        generator=generator_of(bench.config.seed, "simclr"),
    )
    parts = nn.ModuleDict({"projection": loss.projection})
    if loss.queue is not None:
        parts["queue"] = loss.queue
    parts.to(bench.fabric.device)
    step = simclr_step(bench.fabric.setup_module(loss), loss)
    view = VIEWS[settings.views]
    batches = view_batches(bench, "simclr", settings.batch_size, view, view)
    count = _unlabelled_count(bench, settings)
    return Plan(
        settings, every_batch(step, batches), count, parts=parts, keep_start=False, choose="last"
    )


def laso(bench: Bench) -> Plan:
    """Train LaSO on the supervised network's features; its classifier becomes the head."""
    settings, network = bench.config.laso, bench.network
    if not bench.multi_label:
        raise InputError("baselines: laso works on sets of labels, but these data have one each")
    first = inputs_of(bench.train.pixels[:1], network, bench.fabric.device)
    networks = LaSO(
        features_of(network.module, network.head, first).shape[1],
        bench.train.labels.shape[1],
        settings.hidden,
        settings.hidden_subtraction,
        generator=generator_of(bench.config.seed, "laso"),
    ).to(bench.fabric.device, next(network.module.parameters()).dtype)
    head, pairs = network.module.get_submodule(network.head), torch.Generator()
    loss = LaSOLoss(networks, network.module, network.head, generator=pairs)
    step = laso_step(bench.fabric.setup_module(loss), loss)
    batches = _seeded(
        bench, labelled_batches(bench, "laso", settings.batch_size), pairs, "laso-pairs"
    )

    def put_classifier() -> None:
        images = inputs_of(bench.train.pixels, network, bench.fabric.device)
        found = fit_classifier(
            features_of(network.module, network.head, images),
            bench.train.labels.to(bench.fabric.device),
            generator_of(bench.config.seed, "laso-classifier"),
            laso=networks,
            epochs=settings.classifier_epochs,
            batch_size=settings.batch_size,
        )
        weight = found.weight.detach().reshape(head.state_dict()["weight"].shape)
        head.load_state_dict({"weight": weight, "bias": found.bias.detach()})

    return Plan(
        settings,
        every_batch(step, batches),
        batch_count(len(bench.train.examples), settings.batch_size),
        parts=nn.ModuleDict({"laso": networks}),
        only=lambda _name: False,
        keep_start=False,
        choose="last",
        finish=put_classifier,
    )


def fixmatch(bench: Bench) -> Plan:
    """Fine-tune on pseudo-labels: what is sure in a weak view labels the strong one."""
    settings = bench.config.fixmatch
    loss = FixMatchLoss(
        bench.network.module,
        multi_label=bench.multi_label,
        threshold=settings.threshold,
        batch_norm="batch" if settings.batch_norm == "batch" else "frozen",
    )
    step = fixmatch_step(bench.fabric.setup_module(loss), loss)
    batches = view_batches(bench, "fixmatch", settings.batch_size, VIEWS["weak"], VIEWS["strong"])
    return Plan(settings, every_batch(step, batches), _unlabelled_count(bench, settings))


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
        options = MaskOptions(
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


def _supervised(
    bench: Bench,
    settings: StageConfig,
    stage: str,
    *,
    keep_start: bool,
    augmentation: str | None = None,
) -> Plan:
    batches = labelled_batches(bench, stage, settings.batch_size, augmentation)
    count = batch_count(len(bench.train.examples), settings.batch_size)
    schedule = every_batch(_supervised_step(bench, settings), batches)
    return Plan(settings, schedule, count, keep_start=keep_start, choose="labels")


def _supervised_step(bench: Bench, settings: StageConfig) -> Step:
    loss = SupervisedLoss(
        bench.network.module,
        multi_label=bench.multi_label,
        batch_norm="batch" if settings.batch_norm == "batch" else "frozen",
    )
    return supervised_step(bench.fabric.setup_module(loss))


def _fine_tuning(bench: Bench, *, uniform: bool) -> Plan:
    settings = bench.config.consistency
    loss, step, batches = _consistency(bench, uniform=uniform)
    return _unsupervised_plan(
        bench, loss, every_batch(step, batches), _unlabelled_count(bench, settings)
    )


def _combined(bench: Bench, *, uniform: bool) -> Plan:
    settings = bench.config.supervised
    loss, step, batches = _consistency(bench, uniform=uniform)
    schedule = combined(
        _supervised_step(bench, settings),
        step,
        labelled=labelled_batches(bench, "supervised", settings.batch_size),
        unlabelled=batches,
        weight=bench.config.consistency.weight,
    )
    count = batch_count(len(bench.train.examples), settings.batch_size)
    return _from_scratch(_unsupervised_plan(bench, loss, schedule, count), settings)


def _alternated(bench: Bench, *, uniform: bool) -> Plan:
    settings, ours = bench.config.supervised, bench.config.consistency
    loss, step, batches = _consistency(bench, uniform=uniform)
    own = batch_count(len(bench.train.examples), settings.batch_size)
    others = _unlabelled_count(bench, ours)
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
        _supervised_step(bench, settings),
        step,
        labelled=labelled_batches(bench, "supervised", settings.batch_size),
        unlabelled=batches,
        turns=turns,
    )
    return _from_scratch(_unsupervised_plan(bench, loss, schedule, steps), settings)


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
    step = consistency_step(bench.fabric.setup_module(loss), loss)
    if loss.teacher is not None:
        step = _teaching(step, loss.teacher, bench)
    batches = unlabelled_batches(bench, "consistency", bench.config.consistency.batch_size)
    if loss.generator is not None:
        batches = _seeded(bench, batches, loss.generator, "strength")
    return loss, step, batches


def _teacher(bench: Bench) -> nn.Module | None:
    """Copy the network as it starts; the copy follows it by `consistency.teacher`."""
    if bench.config.consistency.teacher is None:
        return None
    return copy.deepcopy(bench.network.module).requires_grad_(requires_grad=False)


def _teaching(step: Step, teacher: nn.Module, bench: Bench) -> Step:
    """Let the teacher follow before every step what the step before has made of the network."""
    decay = bench.config.consistency.teacher

    def taught(batch: Batch) -> Outcome:
        if decay is not None:
            update_teacher(teacher, bench.network.module, decay)
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
        choose=choose,
        signals=settings.signals,
        method=loss.method if settings.signals or choose.startswith("consistency") else None,
    )


def _from_scratch(plan: Plan, settings: StageConfig) -> Plan:
    """A strategy that has no supervised stage before it has that stage's length and optimiser."""
    return replace(plan, settings=settings, keep_start=False, choose="labels")


def _layer_attention_loss(bench: Bench, *, separability: bool) -> LayerAttentionLoss:
    settings = bench.config.layer_attention
    return LayerAttentionLoss(
        bench.network.module,
        settings.layers,
        separability=separability,
        omega=settings.omega,
        threshold=settings.threshold,
    )


def _unlabelled_count(bench: Bench, settings: StageConfig) -> int:
    return batch_count(len(bench.unlabelled_pixels), settings.batch_size)


def _seeded(bench: Bench, batches: Batches, generator: torch.Generator, purpose: str) -> Batches:
    """Seed what a loss draws from at the beginning of every epoch."""

    def seeded(epoch: int) -> Iterator[Batch]:
        generator.manual_seed(seed_of(bench.config.seed, purpose, epoch))
        yield from batches(epoch)

    return seeded


def _number_or_range(ends: tuple[float, float]) -> float | tuple[float, float]:
    """Give the number that a range of it alone stands for."""
    return ends[0] if ends[0] == ends[1] else ends


def _weighted(step: Step, weight: float) -> Step:
    def weighted(batch: Batch) -> Outcome:
        outcome = step(batch)
        return Outcome(weight * outcome.loss, outcome.logged)

    return weighted


_PLANS: dict[str, Callable[..., Plan]] = {
    "fine_tuning": _fine_tuning,
    "combined": _combined,
    "alternated": _alternated,
}
_STARTS = {"fine_tuning": "supervised", "combined": None, "alternated": None}

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
    "laso": Arm("LaSO", laso),
    "fixmatch": Arm("FixMatch", fixmatch),
}
"""What the key `baselines` takes: alternatives that a run trains and judges beside the method."""

_STEPS_ON_THE_WAY = {
    "simclr_pretraining": Arm("SimCLR pretraining", simclr_pretraining, None, judged=False),
}


def arms_of(config: RunConfig) -> dict[str, Arm]:
    """Give the arms of a run in the order of training, each after the one it starts from."""
    strategy = config.strategy
    chosen = {
        "supervised": Arm("supervised", supervised, None),
        "consistency": Arm(
            "consistency",
            lambda bench: _PLANS[strategy](bench, uniform=False),
            _STARTS[strategy],
        ),
    }
    if config.controls.uniform:
        chosen["uniform"] = Arm("uniform mask", uniform, _STARTS[strategy])
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
