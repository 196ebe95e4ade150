"""The stages of a run: supervised training, fine-tuning for consistency, and its control."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from atcon import records
from atcon.attention import logits_of
from atcon.consistency import MATCHINGS, ConsistencyLoss, MaskOptions
from atcon.data import AUGMENTATIONS, Decoded
from atcon.errors import InputError
from atcon.evaluation import f1, mean_average_precision, point, predict
from atcon.experiments.config import ConsistencyConfig, RunConfig, SupervisedConfig
from atcon.experiments.folder import RunFolder
from atcon.experiments.progress import Progress
from atcon.models import Network, load_weights, save_weights
from atcon.training import (
    Batch,
    Schedule,
    Selection,
    SupervisedLoss,
    TrainingState,
    consistency_step,
    every_batch,
    fit,
    generator_of,
    seed_of,
    supervised_step,
)

EVALUATION_BATCH = 32


@dataclass(frozen=True)
class StageResult:
    """How a stage went.

    Attributes:
        epoch: The epoch kept; 0 is the start.
        epochs: How many were trained.
        kept: Whether a trained epoch was kept.
        seconds: Training and validation.
        validation: Metrics of the kept epoch.
        start: Metrics before the first epoch; empty for the supervised stage.
    """

    epoch: int
    epochs: int
    kept: bool
    seconds: float
    validation: dict[str, float]
    start: dict[str, float]


@dataclass
class Bench:
    """What every stage works on."""

    config: RunConfig
    folder: RunFolder
    fabric: Fabric
    network: Network
    train: Decoded
    validation: Decoded
    multi_label: bool
    layer: str
    progress: Progress


def inputs_of(pixels: Tensor, network: Network, device: torch.device) -> Tensor:
    """Normalise `[batch, 3, height, width]` bytes as the network expects them, in its precision."""
    kind = next(network.module.parameters()).dtype
    mean = torch.tensor(network.mean, device=device, dtype=kind)[:, None, None]
    std = torch.tensor(network.std, device=device, dtype=kind)[:, None, None]
    return (pixels.to(device).to(kind) / 255 - mean) / std


@torch.no_grad()
def probabilities_of(
    network: Network, pixels: Tensor, *, multi_label: bool, fabric: Fabric
) -> np.ndarray:
    """Give the probabilities `[n, class]` of decoded images; leaves evaluation mode on."""
    network.module.eval()
    parts = []
    for chunk in torch.split(pixels, EVALUATION_BATCH):
        with fabric.autocast():
            logits = logits_of(network.module(inputs_of(chunk, network, fabric.device)))
        parts.append(squash_logits(logits, multi_label=multi_label))
    return np.concatenate(parts)


def squash_logits(logits: Tensor, *, multi_label: bool) -> np.ndarray:
    """Turn logits into probabilities: per class for multi-label data, else over the classes."""
    logits = logits.detach().double()
    values = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    return values.cpu().numpy()


def supervised_stage(bench: Bench) -> StageResult:
    """Train on the labels; the epoch of the best validation mAP is kept."""
    settings = bench.config.supervised
    loss = SupervisedLoss(
        bench.network.module, multi_label=bench.multi_label, batch_norm=settings.batch_norm
    )
    step = supervised_step(bench.fabric.setup_module(loss))
    schedule = every_batch(step, _batches(bench, "supervised", settings.batch_size))
    return _run_stage(bench, "supervised", schedule, settings)


def consistency_stage(bench: Bench, name: str = "consistency") -> StageResult:
    """Fine-tune for consistency from the supervised weights, without labels.

    An epoch is kept only if it is no worse on validation than the start. The stage named `uniform`
    is the control: the same with P = 0.5 everywhere.
    """
    settings = bench.config.consistency
    load_weights(bench.network.module, bench.folder.weights("supervised"))
    loss = consistency_loss(bench.config, bench.network.module, bench.layer, control=name)
    step = consistency_step(bench.fabric.setup_module(loss), loss)
    batches = _batches(bench, "consistency", settings.batch_size)

    def with_strengths(epoch: int) -> Iterator[Batch]:
        if loss.generator is not None:
            loss.generator.manual_seed(seed_of(bench.config.seed, "strength", epoch))
        return batches(epoch)

    return _run_stage(bench, name, every_batch(step, with_strengths), settings)


def consistency_loss(
    config: RunConfig, model: nn.Module, layer: str | None, control: str = "consistency"
) -> ConsistencyLoss:
    """The loss that the configuration asks for; for the control with a uniform mask."""
    settings = config.consistency
    matching, maps, mask, options = settings.matching, settings.maps, settings.mask, MaskOptions()
    if control == "uniform":
        mask = "uniform"
        if matching is not None and MATCHINGS[matching].by != "mask":  # dimming needs a mask
            matching, maps = "mask", maps or MATCHINGS[matching].maps
    else:
        options = MaskOptions(
            smooth=settings.mask_smooth,
            slope=settings.mask_slope,
            value=settings.mask_value,
            floor=settings.mask_floor,
            strength=settings.mask_strength,
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
        target=settings.target,
        micro_batch=settings.micro_batch,
        generator=torch.Generator(),
    )


def validator(bench: Bench) -> Callable[[], dict[str, float]]:
    """Measure mAP and F1, in percent, on the validation images."""
    labels = bench.validation.labels.numpy().astype(bool)

    def validate() -> dict[str, float]:
        scores = probabilities_of(
            bench.network,
            bench.validation.pixels,
            multi_label=bench.multi_label,
            fabric=bench.fabric,
        )
        predicted = predict(scores, multi_label=bench.multi_label)
        count = len(labels)
        return {
            "map": 100 * float(point(mean_average_precision(labels, scores), count)),
            "f1": 100 * float(point(f1(labels, predicted), count)),
        }

    return validate


def _batches(bench: Bench, stage: str, size: int) -> Callable[[int], Iterator[Batch]]:
    """Shuffle and augment the training images; what epoch k sees depends on seed and k only."""
    augment = AUGMENTATIONS[bench.config.data.augmentation]
    names = [example.name for example in bench.train.examples]

    def batches(epoch: int) -> Iterator[Batch]:
        generator = generator_of(bench.config.seed, stage, epoch)
        order = torch.randperm(len(names), generator=generator)
        for chunk in order.tensor_split(_batch_count(len(names), size)):
            pixels = augment(bench.train.pixels[chunk], generator)
            yield Batch(
                inputs_of(pixels, bench.network, bench.fabric.device),
                bench.train.labels[chunk].to(bench.fabric.device),
                tuple(names[index] for index in chunk.tolist()),
            )

    return batches


def _batch_count(images: int, size: int) -> int:
    """How many batches of nearly equal length, none above `size`."""
    return -(-images // size)


@dataclass
class _Observer:
    """Writes `metrics.jsonl` and tells the progress display."""

    bench: Bench
    stage: str

    def step(self, epoch: int, done: int, logged: Mapping[str, float]) -> None:
        del epoch, done
        self.bench.progress.advance(logged)

    def epoch(self, record: Mapping[str, Any]) -> None:
        records.append_line(self.bench.folder.metrics, {"stage": self.stage, **record})
        validation = record["validation"]
        agreement = record.get("correlation")
        more = "" if agreement is None else f", consistency {agreement:.3f}"
        self.bench.progress.milestone(
            f"{self.stage} epoch {record['epoch']}: loss {record['loss']:.4f}{more}, "
            f"validation mAP {validation['map']:.1f}, F1 {validation['f1']:.1f}"
        )


def _run_stage(
    bench: Bench,
    name: str,
    schedule: Schedule,
    settings: SupervisedConfig | ConsistencyConfig,
) -> StageResult:
    """Run, resume or reload one stage; leaves the selected weights in the network."""
    if bench.folder.stage(name).exists():
        return _reload(bench, name)
    optimizer = torch.optim.Adam(
        bench.network.module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    scaled: Any = bench.fabric.setup_optimizers(optimizer)  # steps as the precision asks for
    state = TrainingState(bench.network.module, scaled, Selection("map"))
    if not _resume(bench, name, state):
        _forget_lines(bench.folder, name, 0)
    steps = _batch_count(len(bench.train.examples), settings.batch_size)
    bench.progress.begin(name, steps * (settings.epochs - state.epoch))

    def save(current: TrainingState) -> None:
        with records.whole_file(bench.folder.last) as part:
            torch.save({"stage": name, **current.state_dict()}, part)

    fit(
        state,
        schedule,
        validator(bench),
        epochs=settings.epochs,
        seed=bench.config.seed,
        backend=bench.fabric,
        observer=_Observer(bench, name),
        keep_start=name != "supervised",
        save=save,
    )
    bench.progress.end()
    return _finish(bench, name, state, settings.epochs)


def _finish(bench: Bench, name: str, state: TrainingState, epochs: int) -> StageResult:
    """Put the selected weights into the network and on disk, with the stage's record."""
    bench.network.module.load_state_dict(state.selection.weights)
    epoch = state.selection.epoch or 0
    result = StageResult(
        epoch=epoch,
        epochs=epochs,
        kept=epoch > 0,
        seconds=round(state.seconds, 2),
        validation=_validation_at(bench.folder, name, epoch) if epoch else dict(state.start),
        start=state.start,
    )
    with records.whole_file(bench.folder.weights(name)) as part:
        save_weights(bench.network.module, part)
    records.write_json(bench.folder.stage(name), asdict(result))
    bench.folder.last.unlink(missing_ok=True)
    return result


def _reload(bench: Bench, name: str) -> StageResult:
    load_weights(bench.network.module, bench.folder.weights(name))
    record = records.read_json(bench.folder.stage(name))
    record.pop("format")
    return StageResult(**record)


def _resume(bench: Bench, name: str, state: TrainingState) -> bool:
    """Continue a stage that was cut short; lines of epochs that were not saved are dropped."""
    if not bench.folder.last.exists():
        return False
    try:
        saved = torch.load(bench.folder.last, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise InputError(f"{bench.folder.last}: cannot resume from this file ({error})") from error
    if saved.pop("stage") != name:
        return False
    state.load_state_dict(saved)
    _forget_lines(bench.folder, name, state.epoch)
    bench.progress.note(f"{name}: continuing after epoch {state.epoch}")
    return True


def _forget_lines(folder: RunFolder, stage: str, epoch: int) -> None:
    """Drop the lines of epochs that were not saved, and a last line that a crash cut short."""
    lines = records.read_lines(folder.metrics)
    kept = [line for line in lines if line["stage"] != stage or line["epoch"] <= epoch]
    records.write_lines(folder.metrics, kept)


def _validation_at(folder: RunFolder, stage: str, epoch: int) -> dict[str, float]:
    for line in records.read_lines(folder.metrics):
        if line["stage"] == stage and line["epoch"] == epoch:
            return dict(line["validation"])
    raise InputError(f"{folder.metrics}: the line of {stage} epoch {epoch} is missing")
