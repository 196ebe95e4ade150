"""The final evaluation: one pass over the test images for every stage's network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from atcon.attention import (
    attention_named,
    choose_classes,
    count_guided,
    resolve_layer,
    trace,
)
from atcon.consistency import Comparison, ConsistencyLoss, contrast_of
from atcon.data import Decoded, ImageSet, Reader, stream
from atcon.errors import InputError
from atcon.evaluation import Localisation, floors, localise
from atcon.experiments.bench import inputs_of, squash_logits
from atcon.experiments.method_arms import consistency_loss
from atcon.experiments.progress import Progress
from atcon.experiments.sections import RunConfig
from atcon.models import Network
from atcon.training import in_parts
from atcon.types import Example

MASK = "mask"
"""What is left of the image in the second pass; no map of the table."""
MAPS = ("grad_cam", "guided_backprop", MASK)


@dataclass
class Judged:
    """What one network said about the test images, in their order.

    Attributes:
        probabilities: `[n, class]`.
        correlation: Consistency of each image's maps.
        contrast: Standard deviation of each image's mask.
        places: Where Grad-CAM of the top class lies; None unless that class is right and has boxes.
        trivial: What trivial maps earn on the same images and classes.
    """

    probabilities: np.ndarray
    correlation: np.ndarray
    contrast: np.ndarray
    places: list[Localisation | None]
    trivial: list[dict[str, Localisation] | None]

    @property
    def top(self) -> np.ndarray:
        """The top predicted class of each image."""
        return np.asarray(self.probabilities.argmax(axis=1))


@dataclass
class Verdicts:
    """The test images, what every network said about them, and the pictures of a few."""

    examples: list[Example] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=bool))
    stages: dict[str, Judged] = field(default_factory=dict)
    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def repeat(self, stage: str, other: str) -> None:
        """Say of another stage what was said of this one: their networks are the same."""
        self.stages[other] = self.stages[stage]
        for picture in self.pictures.values():
            shown = {f"{other}_{name}": picture.get(f"{stage}_{name}") for name in MAPS}
            picture.update({key: values for key, values in shown.items() if values is not None})


@dataclass
class _Growing:
    """The batches of one stage, before they are joined."""

    loss: ConsistencyLoss
    network: Network
    probabilities: list[np.ndarray] = field(default_factory=list)
    correlation: list[np.ndarray] = field(default_factory=list)
    contrast: list[np.ndarray] = field(default_factory=list)
    places: list[Localisation | None] = field(default_factory=list)
    trivial: list[dict[str, Localisation] | None] = field(default_factory=list)

    def joined(self) -> Judged:
        return Judged(
            np.concatenate(self.probabilities),
            np.concatenate(self.correlation),
            np.concatenate(self.contrast),
            self.places,
            self.trivial,
        )


def judge(
    config: RunConfig,
    image_set: ImageSet,
    examples: Sequence[Example],
    networks: Mapping[str, Network],
    *,
    size: int,
    layer: str,
    fabric: Fabric,
    progress: Progress,
    pictured: frozenset[str] = frozenset(),
) -> Verdicts:
    """Decode every test image once and ask all networks about it.

    Args:
        config: Of the run; its consistency settings measure every stage alike.
        image_set: Where the images are read.
        examples: The test images.
        networks: By stage; on the fabric's device.
        size: Side of the square input.
        layer: The layer that Grad-CAM explains.
        fabric: Device and precision.
        progress: Told about every batch.
        pictured: Names of the images whose maps are kept for the gallery.
    """
    growing = {
        stage: _Growing(judging_loss(config, network, layer), network)
        for stage, network in networks.items()
    }
    verdicts = Verdicts()
    labels = []
    measured = _measured(config, examples, pictured)
    progress.begin("evaluation", len(examples), image_set.unit)
    reader, policy = Reader(image_set, size), config.data.on_bad_image
    batches = chain.from_iterable(  # of one kind each: with the maps' consistency, or without
        stream(reader, [e for e in examples if (e.name in measured) is kind], many, policy)
        for kind, many in (
            (True, config.evaluation.batch_size),
            (False, 4 * config.evaluation.batch_size),
        )
    )
    for batch in batches:
        labels.append(batch.labels.numpy().astype(bool))
        verdicts.examples += batch.examples
        verdicts.skipped += batch.skipped
        verdicts.hashes.update(batch.hashes)
        count = len(batch.examples)
        known = count > 0 and batch.examples[0].name in measured
        for stage, part in growing.items():
            ask = partial(_ask, part, batch, layer, fabric, known)
            for rows, comparison in in_parts(ask, count, count):
                some = batch.rows(rows)
                _note(part, comparison, some, size, multi_label=image_set.multi_label)
                _picture(verdicts, stage, comparison, some, pictured)
        for name, reason in batch.skipped:
            progress.note(f"skipped {name}: {reason}")
        progress.advance({}, len(batch.examples) + len(batch.skipped))
    progress.end()
    verdicts.labels = np.concatenate(labels)
    verdicts.stages = {stage: part.joined() for stage, part in growing.items()}
    return verdicts


def _ask(
    part: _Growing, batch: Decoded, layer: str, fabric: Fabric, known: bool, rows: slice
) -> Comparison:
    """Ask a network about some images of a batch; for their consistency where it shall be known."""
    with fabric.autocast():
        inputs = inputs_of(batch.pixels[rows], part.network, fabric.device)
        if known:
            return part.loss.compare(inputs, also=MAPS[:2])
        return _grad_cam_alone(part.network, layer, inputs)


def _measured(
    config: RunConfig, examples: Sequence[Example], pictured: frozenset[str]
) -> frozenset[str]:
    """Name the images whose maps' consistency is measured: those pictured, and others at random."""
    count = config.evaluation.consistency_images
    names = [example.name for example in examples]
    if count is None or count >= len(names):
        return frozenset(names)
    drawn = np.random.default_rng([config.seed, 4]).permutation(len(names))
    others = [names[index] for index in drawn if names[index] not in pictured]
    return pictured | frozenset(others[: max(count - len(pictured), 0)])


def _grad_cam_alone(network: Network, layer: str, inputs: Tensor) -> Comparison:
    """Take the one map that overlap needs: a quarter of the time."""
    _, module = resolve_layer(network.module, layer, inputs)
    run = trace(network.module, inputs, module)
    classes = choose_classes(run.logits)
    maps = {"grad_cam": attention_named("grad_cam").map(run, classes)}
    unknown = maps["grad_cam"].new_full((len(inputs),), torch.nan)
    return Comparison(run.logits.detach(), classes, maps, (), unknown, run.rule.guided)


def judging_loss(
    config: RunConfig, network: Network, layer: str, target: int | None = None
) -> ConsistencyLoss:
    """The configured consistency of one class: the top predicted one, unless one is asked for."""
    loss = consistency_loss(config, network.module, layer)
    loss.target = target
    return loss


def try_maps(
    config: RunConfig, network: Network, layer: str, pixels: Tensor, fabric: Fabric
) -> None:
    """Take every map of a run once, so that a network that does not allow one fails at the start.

    Args:
        config: Of the run.
        network: As it is before training; on the fabric's device.
        layer: The layer that Grad-CAM explains.
        pixels: The bytes of images or clips; one is enough.
        fabric: Device and precision.

    Raises:
        InputError: The network does not allow one of the maps, or a map has no gradient that needs
            one.
    """
    images = inputs_of(pixels, network, fabric.device)
    loss = consistency_loss(config, network.module, layer)
    with fabric.autocast():
        loss.compare(images, create_graph=True)
        try:
            loss.compare(images, also=MAPS[:2])
        except InputError as error:
            shown = " and ".join(attention_named(name).title for name in MAPS[:2])
            raise InputError(f"every evaluation shows {shown}, but: {error}") from error


def shown_maps(comparison: Comparison) -> dict[str, Tensor]:
    """Give the maps that the gallery shows; without masking, P is 1 everywhere."""
    maps = {name: comparison.maps[name] for name in MAPS[:2]}
    mask = comparison.mask
    return {**maps, MAPS[2]: torch.ones_like(maps[MAPS[1]]) if mask is None else mask}


def guided_activations(network: Network, shape: Sequence[int], device: torch.device) -> int:
    """How many activations of the network the guided rule reaches, of a sample of this shape."""
    black = torch.zeros(1, *shape, dtype=torch.uint8)
    return count_guided(network.module, inputs_of(black, network, device))


def _note(
    part: _Growing, comparison: Comparison, batch: Decoded, size: int, *, multi_label: bool
) -> None:
    part.probabilities.append(squash_logits(comparison.logits, multi_label=multi_label))
    part.correlation.append(_numbers(comparison.correlation))
    part.contrast.append(_numbers(contrast_of(comparison)))
    maps = _numbers(comparison.maps["grad_cam"])
    classes = comparison.classes.tolist()
    for attention, example, top in zip(maps, batch.examples, classes, strict=True):
        boxes = example.boxes if top in example.labels else ()
        part.places.append(localise(attention, boxes, top, size=size))
        part.trivial.append(floors(boxes, top, size=size))


def _picture(
    verdicts: Verdicts,
    stage: str,
    comparison: Comparison,
    batch: Decoded,
    pictured: frozenset[str],
) -> None:
    for row, example in enumerate(batch.examples):
        if example.name in pictured:
            maps = shown_maps(comparison)
            picture = verdicts.pictures.setdefault(example.name, {})
            picture["image"] = batch.pixels[row].movedim(0, -1).numpy()
            for name, values in maps.items():
                picture[f"{stage}_{name}"] = _numbers(values[row])


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
