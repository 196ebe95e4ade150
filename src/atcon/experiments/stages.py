"""A stage of a run: its plan is carried out, resumed where it was cut short, and recorded."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atcon import records
from atcon.consistency import ConsistencyLoss, Method
from atcon.errors import InputError
from atcon.experiments.bench import Bench, follower, inputs_of, validator
from atcon.experiments.folder import RunFolder
from atcon.experiments.sections import StageConfig, every_of
from atcon.models import load_weights, save_weights
from atcon.training import (
    Average,
    Batch,
    Halves,
    Keeps,
    Probe,
    Relief,
    Rounds,
    RuleSelection,
    Schedule,
    Selection,
    Step,
    TrainingState,
    batch_norm_policy,
    check_values,
    fit,
    generator_of,
    halve_largest,
    parameter_groups,
    rate_scheduler,
    rule_named,
)

DEFAULT_RULE = "drift_budget"
"""What stops a fine-tuning where no validation labels exist (docs/results/stopping.md)."""
METRICS = ("map", "f1")
"""What is measured on validation images; one of the two chooses the epoch."""
PROBE_IMAGES = 64
"""How many images, at most, a stopping rule looks at after every round."""


@dataclass(frozen=True)
class StageResult:
    """How a stage went.

    Attributes:
        epoch: The epoch kept; 0 is the start.
        epochs: How many were asked for.
        kept: Whether a trained epoch was kept.
        seconds: Training and validation.
        validation: Metrics of the kept epoch; empty where there are no validation images.
        start: All that was measured before the first epoch; empty for a stage that begins anew.
        selected_by: The validation metric, or the name of the stopping rule.
        steps: Of the optimiser, as far as it went.
        reused_from: The run that trained it, `EXPERIMENT/CELL`, and took the seconds; None: this
            one.
    """

    epoch: float
    epochs: int
    kept: bool
    seconds: float
    validation: dict[str, float]
    start: dict[str, float]
    selected_by: str = "map"
    steps: int = 0
    reused_from: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a stage does.

    Attributes:
        settings: Its length and its optimiser.
        schedule: The steps of every epoch.
        batches: How many steps an epoch has.
        parts: Further modules to train, such as a projection head.
        only: Names of the parameters of the network that train; None for all of them.
        keep_start: Whether the start is kept unless an epoch is no worse.
        choose: "labels": by validation, where there are labels; "rule": the same, else by the
            default stopping rule; "last": the last epoch; or the name of a stopping rule.
        progress: Told the share of the stage that is done, before every round.
        signals: Whether the signals of the stopping rules are recorded, whoever chooses.
        method: How the signal "consistency" is measured; None leaves it out.
        losses: Those that are taken in smaller parts when the memory of the device runs out.
        monitor: Measures what is only watched, at every validation, beside the supervised loss.
        finish: Called with the network at the end, before its weights are saved.
    """

    settings: StageConfig
    schedule: Schedule
    batches: int
    parts: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    only: Callable[[str], bool] | None = None
    keep_start: bool = True
    choose: str = "rule"
    signals: bool = False
    method: Method | None = None
    progress: Callable[[float], None] = lambda _share: None
    losses: tuple[Halves, ...] = ()
    monitor: Callable[[], dict[str, float]] | None = None
    finish: Callable[[], None] = lambda: None

    @property
    def measured_on_the_way(self) -> bool:
        """Whether it is validated after every round, and not only at its end.

        A stage that keeps its last round anyway has a head that means nothing until then.
        """
        return self.keep_start or self.choose != "last"


def run_stage(
    bench: Bench, name: str, plan: Callable[[Bench], Plan], start: str | None
) -> StageResult:
    """Carry out, resume or reload a stage; leaves the weights that it kept in the network.

    Args:
        bench: What it works on.
        name: Of the stage, in the records.
        plan: Makes its plan, once the network has the weights of the start.
        start: The stage whose weights it starts from; None for those before any training.
    """
    module = bench.network.module
    if bench.processes.same(bench.folder.stage(name).exists):
        return _reload(bench, name)
    if start is None:
        module.load_state_dict(bench.pretrained)
    else:
        load_weights(module, bench.folder.weights(start))
    made = plan(bench)
    with batch_norm_policy(module, made.settings.batch_norm), training_only(module, made.only):
        return _carry_out(bench, name, made)


@contextmanager
def training_only(module: nn.Module, wanted: Callable[[str], bool] | None) -> Iterator[None]:
    """Let only the parameters of these names have gradients."""
    before = {name: weight.requires_grad for name, weight in module.named_parameters()}
    try:
        for name, weight in module.named_parameters():
            weight.requires_grad = weight.requires_grad and (wanted is None or wanted(name))
        yield
    finally:
        for name, weight in module.named_parameters():
            weight.requires_grad = before[name]


def rounds_of(settings: StageConfig, batches: int) -> Rounds:
    """Cut a stage as its settings say."""
    count, unit = every_of(settings.validate_every)
    return Rounds(settings.epochs, batches, count * batches if unit == "epoch" else count)


def _carry_out(bench: Bench, name: str, plan: Plan) -> StageResult:
    rounds, module = rounds_of(plan.settings, plan.batches), bench.network.module
    selection, chooser = _selection(bench, plan)
    looks = plan.signals or chooser not in (*METRICS, "last")
    probe = _probe(bench, plan) if looks else None  # it looks at the start
    state = _state(bench, plan, selection, rounds.steps)
    if not _resume(bench, name, state, rounds):
        if bench.processes.first:
            _forget_lines(bench.folder, name, 0)
    elif probe is not None:
        with state.judged():
            probe.resume(bench.network.module)
    bench.processes.meet()  # all have read what the first one now overwrites
    watch = plan.monitor or dict
    measure = validator(bench, loss=bool(plan.monitor)) if plan.measured_on_the_way else dict
    cut = rounds.cut(plan.schedule)

    follow = follower(bench) if plan.signals else dict

    def validate() -> dict[str, float]:
        return {
            **measure(),
            **follow(),
            **watch(),
            **(probe(bench.network.module) if probe else {}),
        }

    def schedule(number: int) -> Iterable[tuple[Step, Batch]]:
        plan.progress((number - 1) / max(rounds.count - 1, 1))
        return cut(number)

    def save(current: TrainingState) -> None:
        with records.whole_file(bench.folder.last) as part:
            _write_state({"stage": name, **current.state_dict()}, part)

    observer = _Observer(bench, name)
    bench.progress.begin(name, rounds.steps_after(state.epoch))
    fit(
        state,
        schedule,
        validate,
        epochs=rounds.count,
        seed=bench.config.seed,
        backend=bench.fabric,
        observer=observer,
        keep_start=plan.keep_start,
        save=save,
        label=rounds.epoch_at,
        processes=bench.processes,
        scaled=bench.config.precision == "16-mixed",
        relief=_relief(bench, plan, observer),
    )
    bench.progress.end()
    result = bench.processes.same(lambda: _finish(bench, name, plan, state, rounds, chooser))
    if not bench.processes.first:
        load_weights(module, bench.folder.weights(name))
    return result


def _write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write what a resume needs.

    Raises:
        OSError: It cannot be written; PyTorch alone says of a full disk that a position is wrong.
    """
    with path.open("wb") as handle:
        try:
            torch.save(state, handle)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _selection(bench: Bench, plan: Plan) -> tuple[Keeps, str]:
    """Choose who keeps a round, and name it: the validation metric, or a stopping rule."""
    labelled, choose = bench.validation is not None, plan.choose
    if labelled and choose in ("labels", "rule"):
        return Selection(bench.metric, plan.settings.patience), bench.metric
    rule = {"labels": "last", "rule": DEFAULT_RULE}.get(choose, choose)
    return RuleSelection(rule_named(rule)), rule


def _probe(bench: Bench, plan: Plan) -> Probe:
    """Look at the start, on images drawn at random: they lie in the order of their classes."""
    drawn = torch.randperm(
        len(bench.unlabelled_names), generator=generator_of(bench.config.seed, "probe")
    )
    pixels = bench.unlabelled_pixels[drawn[:PROBE_IMAGES]]
    return Probe(
        bench.network.module,
        inputs_of(pixels, bench.network, bench.fabric.device),
        multi_label=bench.multi_label,
        layer=bench.layer,
        method=plan.method,
    )


def _state(bench: Bench, plan: Plan, selection: Keeps, steps: int) -> TrainingState:
    """Set up the optimiser with its rates, and the average of the weights."""
    settings, module = plan.settings, bench.network.module
    groups = []
    if any(weight.requires_grad for weight in module.parameters()):
        groups = parameter_groups(
            module,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            layer_decay=settings.layer_decay,
            head=bench.network.head,
            head_factor=settings.head_factor,
        )
    more = [weight for weight in plan.parts.parameters() if weight.requires_grad]
    if more:
        groups.append({"params": more, "lr": settings.lr, "weight_decay": settings.weight_decay})
    optimizer = torch.optim.Adam(groups)
    rates = rate_scheduler(optimizer, settings.rate, steps, settings.warm_up)
    scaled: Any = bench.fabric.setup_optimizers(optimizer)  # steps as the precision asks for
    average = None if settings.average is None else Average(module, settings.average)
    return TrainingState(module, scaled, selection, rates, average, plan.parts)


@dataclass
class _Observer:
    """Writes `metrics.jsonl` and tells the progress display.

    Attributes:
        bench: What it works on.
        stage: Its name.
        micro_batch: How many images a step takes at a time since the memory ran out.
    """

    bench: Bench
    stage: str
    micro_batch: int | None = None

    def step(self, epoch: int, done: int, logged: Mapping[str, float]) -> None:
        del epoch, done
        self.bench.progress.advance(logged)

    def epoch(self, record: Mapping[str, Any]) -> None:
        if not self.bench.processes.first:
            return
        parts = {} if self.micro_batch is None else {"micro_batch": self.micro_batch}
        line = {"stage": self.stage, **record, **parts}
        records.append_line(self.bench.folder.metrics, line)
        validation, agreement = record["validation"], record.get("correlation")
        said = [f"{self.stage} epoch {record['epoch']:g}: loss {record['loss']:.4f}"]
        if agreement is not None:
            said.append(f"consistency {agreement:.3f}")
        if "map" in validation:
            said.append(f"validation mAP {validation['map']:.1f}, F1 {validation['f1']:.1f}")
        self.bench.progress.milestone(", ".join(said))


def _relief(bench: Bench, plan: Plan, observer: _Observer) -> Relief:
    """Halve the parts of a step; one that has moved BatchNorm's statistics is not taken again."""
    draws = [loss.generator for loss in plan.losses if isinstance(loss, ConsistencyLoss)]

    def halve() -> bool:
        size = None if plan.settings.batch_norm == "batch" else halve_largest(plan.losses)
        if size is None:
            return False
        observer.micro_batch = size
        bench.progress.note(
            f"{observer.stage}: out of memory, so it goes on with {size} images at a time"
        )
        return True

    return Relief(halve, tuple(generator for generator in draws if generator is not None))


def _finish(
    bench: Bench, name: str, plan: Plan, state: TrainingState, rounds: Rounds, chooser: str
) -> StageResult:
    """Put the selected weights into the network and on disk, with the stage's record."""
    bench.network.module.load_state_dict(state.selection.weights)
    number = state.selection.epoch or 0
    plan.finish()
    check_values(bench.network.module.state_dict(), f"at the end of {name}")
    measured = _measured(bench, name, plan, rounds.epoch_at(number)) if number else state.start
    result = StageResult(
        epoch=rounds.epoch_at(number),
        epochs=plan.settings.epochs,
        kept=number > 0,
        seconds=round(state.seconds, 2),
        validation=_metrics_of(measured),
        start=dict(state.start),
        selected_by=chooser,
        steps=rounds.steps - rounds.steps_after(state.epoch),
    )
    with records.whole_file(bench.folder.weights(name)) as part:
        save_weights(bench.network.module, part)
    records.write_json(bench.folder.stage(name), asdict(result))
    bench.folder.last.unlink(missing_ok=True)
    return result


def _metrics_of(measured: Mapping[str, float]) -> dict[str, float]:
    """Leave the signals of the rules out; they stand in `metrics.jsonl`."""
    return {key: measured[key] for key in METRICS if key in measured}


def _reload(bench: Bench, name: str) -> StageResult:
    load_weights(bench.network.module, bench.folder.weights(name))
    path = bench.folder.stage(name)
    record = records.read_json(path)
    record.pop("format")
    try:
        return StageResult(**record)
    except TypeError as error:
        raise InputError(f"{path}: of another version ({error}); continue with it") from error


def _resume(bench: Bench, name: str, state: TrainingState, rounds: Rounds) -> bool:
    """Continue a stage that was cut short; lines of rounds that were not saved are dropped."""
    if not bench.folder.last.exists():
        return False
    try:
        saved = torch.load(bench.folder.last, map_location="cpu", weights_only=True)
        if saved.pop("stage") != name:
            return False
        state.load_state_dict(saved)
        _check_whole(state)
    except Exception as error:  # readers of broken files raise anything
        raise InputError(
            f"{bench.folder.last}: cannot resume from this file ({error}); it is damaged, or of "
            f"another version: remove it to begin {name} anew, other stages are kept"
        ) from error
    done = rounds.epoch_at(state.epoch)
    if bench.processes.first:
        _forget_lines(bench.folder, name, done)
    bench.progress.note(f"{name}: continuing after epoch {done:g}")
    return True


def _check_whole(state: TrainingState) -> None:
    """Hold that what was loaded is of this network; it would be seen later, or not at all."""
    shapes = {name: value.shape for name, value in state.model.state_dict().items()}
    kept = {name: value.shape for name, value in state.selection.weights.items()}
    if kept not in ({}, shapes):
        raise ValueError("the weights that it keeps are of another network")
    for parameter, moments in state.optimizer.state.items():
        for moment in moments.values():
            if isinstance(moment, torch.Tensor) and moment.shape not in ((), parameter.shape):
                raise ValueError("its optimiser is of another network")


def _forget_lines(folder: RunFolder, stage: str, epoch: float) -> None:
    """Drop the lines of rounds that were not saved, and a last line that a crash cut short."""
    lines = records.read_lines(folder.metrics)
    kept = [line for line in lines if line["stage"] != stage or line["epoch"] <= epoch]
    records.write_lines(folder.metrics, kept)


def _measured(bench: Bench, stage: str, plan: Plan, epoch: float) -> dict[str, float]:
    """Give the validation of the epoch kept; where none was measured on the way, measure now."""
    if not plan.measured_on_the_way:
        return validator(bench)()
    folder = bench.folder
    for line in records.read_lines(folder.metrics):
        if line["stage"] == stage and line["epoch"] == epoch:
            return dict(line["validation"])
    raise InputError(f"{folder.metrics}: the line of {stage} epoch {epoch:g} is missing")
