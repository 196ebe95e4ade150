"""What every stage of a run works on: the network, the images in memory, and their batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from atcon.attention import logits_of
from atcon.baselines import ViewBatch
from atcon.data import AUGMENTATIONS, Decoded, group_of
from atcon.data.augment import Augmentation
from atcon.evaluation import f1, mean_average_precision, point, predict
from atcon.experiments.folder import RunFolder
from atcon.experiments.progress import Progress
from atcon.experiments.sections import RunConfig, StageConfig
from atcon.models import Network
from atcon.training import (
    ALONE,
    Addend,
    Batch,
    Batches,
    Processes,
    Step,
    cross_entropy,
    divided,
    generator_of,
    in_parts,
    seed_of,
)
from atcon.types import Example

EVALUATION_BATCH = 32


@dataclass
class Bench:
    """What every stage works on.

    Attributes:
        config: Of the run.
        folder: Where its records lie.
        fabric: Device and precision.
        network: What is trained, on the device.
        pretrained: Its weights before any training, on the CPU.
        train: The labelled images.
        unlabelled: Extra images for consistency; None: it uses the labelled ones alone.
        validation: What chooses epochs and thresholds; None: there are no labels for that.
        followed: What nothing is chosen by, but measured after every round; None: nothing is.
        multi_label: Whether several classes may hold for one image.
        metric: Of the validation, which chooses epochs: "map" or "f1".
        layer: What Grad-CAM explains.
        progress: Told about every step.
        processes: Those that share every batch.
    """

    config: RunConfig
    folder: RunFolder
    fabric: Fabric
    network: Network
    pretrained: dict[str, Tensor]
    train: Decoded
    unlabelled: Decoded | None
    validation: Decoded | None
    followed: Decoded | None
    multi_label: bool
    metric: str
    layer: str
    progress: Progress
    processes: Processes = ALONE

    @cached_property
    def unlabelled_pixels(self) -> Tensor:
        """The images of consistency steps: the labelled ones, and the extra ones."""
        if self.unlabelled is None:
            return self.train.pixels
        return torch.cat([self.train.pixels, self.unlabelled.pixels])

    @property
    def unlabelled_names(self) -> list[str]:
        """Their names."""
        return [example.name for example in self._unlabelled]

    @property
    def unlabelled_groups(self) -> Tensor:
        """A number for the group of each."""
        groups = [group_of(example) for example in self._unlabelled]
        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
        return torch.tensor([number[group] for group in groups])

    @property
    def _unlabelled(self) -> tuple[Example, ...]:
        extra = () if self.unlabelled is None else self.unlabelled.examples
        return (*self.train.examples, *extra)


def inputs_of(pixels: Tensor, network: Network, device: torch.device) -> Tensor:
    """Normalise bytes as the network expects them, in its precision.

    Images `[batch, 3, height, width]` and clips `[batch, 3, frame, height, width]` have their
    channels last in memory, which convolutions prefer.
    """
    kind, ones = next(network.module.parameters()).dtype, [1] * (pixels.ndim - 2)
    mean = torch.tensor(network.mean, device=device, dtype=kind).view(-1, *ones)
    std = torch.tensor(network.std, device=device, dtype=kind).view(-1, *ones)
    images = (pixels.to(device).to(kind) / 255 - mean) / std
    layout = torch.channels_last if pixels.ndim == 4 else torch.channels_last_3d
    return images.contiguous(memory_format=layout)


def probabilities_of(
    network: Network, pixels: Tensor, *, multi_label: bool, fabric: Fabric
) -> np.ndarray:
    """Give the probabilities `[n, class]` of decoded images; leaves evaluation mode on."""
    return squash_logits(_logits_over(network, pixels, fabric), multi_label=multi_label)


@torch.no_grad()
def _logits_over(network: Network, pixels: Tensor, fabric: Fabric) -> Tensor:
    """Give the logits `[n, class]` in double precision; leaves evaluation mode on."""
    network.module.eval()

    def ask(part: slice) -> Tensor:
        with fabric.autocast():
            inputs = inputs_of(pixels[part], network, fabric.device)
            return logits_of(network.module(inputs)).double()

    return torch.cat([made for _, made in in_parts(ask, len(pixels), EVALUATION_BATCH)])


def squash_logits(logits: Tensor, *, multi_label: bool) -> np.ndarray:
    """Turn logits into probabilities: per class for multi-label data, else over the classes."""
    logits = logits.detach().double()
    values = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    return values.cpu().numpy()


def validator(bench: Bench, *, loss: bool = False) -> Callable[[], dict[str, float]]:
    """Measure mAP and F1, in percent, on the validation images; nothing where there are none.

    Args:
        bench: Its network as it is then.
        loss: Whether the supervised loss is given too, as `cross_entropy`.
    """
    names = {"map": "map", "f1": "f1"}
    return _measurer(bench, bench.validation, names, loss=loss)


def follower(bench: Bench) -> Callable[[], dict[str, float]]:
    """Measure mAP, as `held_out`, on images that nothing is chosen by; nothing without them."""
    return _measurer(bench, bench.followed, {"map": "held_out"})


def _measurer(
    bench: Bench, images: Decoded | None, names: Mapping[str, str], *, loss: bool = False
) -> Callable[[], dict[str, float]]:
    if images is None:
        return dict
    labels, one_hot = images.labels.numpy().astype(bool), images.labels.double()

    def measure() -> dict[str, float]:
        logits = _logits_over(bench.network, images.pixels, bench.fabric).cpu()
        scores = squash_logits(logits, multi_label=bench.multi_label)
        predicted = predict(scores, multi_label=bench.multi_label)
        metrics = {"map": mean_average_precision(labels, scores), "f1": f1(labels, predicted)}
        found = {
            name: 100 * float(point(metrics[metric], len(labels))) for metric, name in names.items()
        }
        if loss:
            value = cross_entropy(logits, one_hot, multi_label=bench.multi_label)
            found["cross_entropy"] = float(value)
        return found

    return measure


def step_of(bench: Bench, loss: nn.Module, make: Callable[[nn.Module], Step]) -> Step:
    """Make a step on the device, which can be asked of a part of a batch.

    Args:
        bench: What it works on.
        loss: A mean over the images of a batch.
        make: Gives the step of a loss.
    """
    addend = Addend(loss)
    return divided(make(bench.fabric.setup_module(addend)), addend)


def labelled_batches(
    bench: Bench, stage: str, size: int, augmentation: str | None = None
) -> Batches:
    """Shuffle and augment the labelled images; what epoch k sees depends on seed and k only."""
    names = [example.name for example in bench.train.examples]
    augment = AUGMENTATIONS[augmentation or bench.config.data.augmentation]
    return _batches(bench, stage, size, bench.train.pixels, bench.train.labels, names, augment)


def unlabelled_batches(bench: Bench, stage: str, size: int) -> Batches:
    """The same of the images of consistency steps; their labels are NaN, which no step may use."""
    pixels, names = bench.unlabelled_pixels, bench.unlabelled_names
    labels = torch.full((len(pixels), bench.train.labels.shape[1]), torch.nan)
    augment = AUGMENTATIONS[bench.config.data.augmentation]
    return _batches(bench, stage, size, pixels, labels, names, augment)


def view_batches(
    bench: Bench, stage: str, size: int, first: Augmentation, second: Augmentation
) -> Batches:
    """Two views of every image of consistency steps, as `ViewBatch`es.

    What is of one group (a patient) is no negative of each other; an image without one is a group
    of its own, also in the queue.
    """
    pixels, names = bench.unlabelled_pixels, bench.unlabelled_names
    groups = bench.unlabelled_groups
    classes = bench.train.labels.shape[1]

    def batches(epoch: int) -> Iterator[Batch]:
        generator = generator_of(bench.config.seed, stage, epoch)
        for chunk in _chunks(len(pixels), size, generator):
            views = [view(pixels[chunk], generator) for view in (first, second)]
            one, two = (inputs_of(view, bench.network, bench.fabric.device) for view in views)
            labels = torch.full((len(chunk), classes), torch.nan, device=bench.fabric.device)
            shown = tuple(names[i] for i in chunk.tolist())
            yield ViewBatch(one, labels, shown, two, groups[chunk].to(bench.fabric.device))

    return batches


def labelled_count(bench: Bench, settings: StageConfig) -> int:
    """How many batches the labelled images make."""
    return _batch_count(len(bench.train.examples), settings.batch_size)


def unlabelled_count(bench: Bench, settings: StageConfig) -> int:
    """How many batches the images of consistency steps make."""
    return _batch_count(len(bench.unlabelled_names), settings.batch_size)


def seeded(bench: Bench, batches: Batches, generator: torch.Generator, purpose: str) -> Batches:
    """Seed what a loss draws from at the beginning of every epoch."""

    def begun(epoch: int) -> Iterator[Batch]:
        generator.manual_seed(seed_of(bench.config.seed, purpose, epoch))
        yield from batches(epoch)

    return begun


def _batch_count(images: int, size: int) -> int:
    """How many batches of nearly equal length, none above `size`."""
    return -(-images // size)


def _batches(
    bench: Bench,
    stage: str,
    size: int,
    pixels: Tensor,
    labels: Tensor,
    names: list[str],
    augment: Augmentation,
) -> Batches:
    def batches(epoch: int) -> Iterator[Batch]:
        generator = generator_of(bench.config.seed, stage, epoch)
        for chunk in _chunks(len(names), size, generator):
            seen = augment(pixels[chunk], generator)  # whole: every process draws the same numbers
            part = bench.processes.part(len(chunk))
            own = chunk[part]
            yield Batch(
                inputs_of(seen[part], bench.network, bench.fabric.device),
                labels[own].to(bench.fabric.device),
                tuple(names[index] for index in own.tolist()),
                share=len(own) / len(chunk),
            )

    return batches


def _chunks(images: int, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    order = torch.randperm(images, generator=generator)
    return order.tensor_split(_batch_count(images, size))
