"""Look at new images or clips through the networks of a finished run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from atcon.attention import attention_named
from atcon.consistency import Comparison, contrast_of
from atcon.data import CLIP_SUFFIX, read_clip, read_image, read_video, resize
from atcon.errors import BadImageError, InputError
from atcon.evaluation import predict
from atcon.experiments.bench import inputs_of, squash_logits
from atcon.experiments.finished import FinishedRun, reopen
from atcon.experiments.gallery import (
    STAGES,
    defined,
    put_maps,
    rate_record,
    write_arrays,
    write_index,
)
from atcon.experiments.judge import MAPS, MASK, judging_loss
from atcon.experiments.progress import Progress
from atcon.experiments.setup import fabric_of, size_of
from atcon.models import Network
from atcon.records import check_new
from atcon.types import Pixels


@dataclass(frozen=True)
class _Question:
    """What is asked about every image."""

    opened: FinishedRun
    fabric: Fabric
    networks: dict[str, Network]
    maps: tuple[str, ...]
    target: int | None
    layer: str


def attend(  # noqa: PLR0913 - the options of its command
    run: Path,
    images: Sequence[Path],
    out: Path,
    *,
    maps: Sequence[str] = MAPS,
    stages: Sequence[str] = STAGES,
    label: str | None = None,
    layer: str | None = None,
    start: float = 0.0,
    overrides: Iterable[str] = (),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Compute the maps of new images, or clips, with the networks of a finished run.

    Writes `NNNN.npz` per image and `index.json` in the gallery's format; an image that cannot be
    read is named and passed over.

    Args:
        run: The run folder.
        images: Image files; of a run on clips, files of `atcon clips`, or recordings.
        out: A new folder.
        maps: Names of `atcon.attention.ATTENTION`, and "mask": what the mask of the run's
            consistency leaves of the image.
        stages: Whose networks to ask.
        label: The class to explain; None for the top predicted one of each network.
        layer: The layer to explain, also for the consistency; None for the run's.
        start: Where in a recording the clip begins, in seconds.
        overrides: `device=…`, `precision=…`.
        progress: Told what was passed over.

    Raises:
        InputError: `out` exists, no image is given or none can be read, the class, the layer or a
            map is unknown, or a network does not allow a map.
    """
    check_new(out)
    if not images:
        raise InputError("no files are given to look at: name one or more images or clips")
    progress = progress or Progress()
    question = _question(run, maps, stages, label, layer, overrides)
    size = size_of(question.opened.config, question.networks[stages[0]])
    entries: list[dict[str, Any]] = []
    for path in images:
        try:
            pixels = resize(_read(path, question.opened, start), size)
        except BadImageError as error:
            progress.note(f"passed over: {error}")
            continue
        file = f"{len(entries):04d}.npz"
        arrays = {"image": pixels.movedim(0, -1).numpy()}
        answers = {}
        for stage in stages:
            answers[stage], found = _answer(question, stage, pixels, path)
            answers[stage]["ranges"] = put_maps(arrays, stage, found)
        write_arrays(out / file, arrays)
        known = {"name": str(path), "file": file, "labels": [], "boxes": [], "stages": answers}
        entries.append({**known, **rate_record(question.opened.record)})
    if not entries:
        raise InputError(f"none of the {len(images)} files could be read")
    write_index(out, question.maps, stages, entries)
    return entries


def _question(
    run: Path,
    maps: Sequence[str],
    stages: Sequence[str],
    label: str | None,
    layer: str | None,
    overrides: Iterable[str],
) -> _Question:
    """Look everything up that was asked for by name."""
    for name in maps:
        if name != MASK:
            attention_named(name)
    opened = reopen(run, overrides)
    classes = opened.record["classes"]
    if label is not None and label not in classes:
        raise InputError(f"class {label!r} is not one of the run's: {', '.join(classes)}")
    fabric = fabric_of(opened.config)
    return _Question(
        opened,
        fabric,
        networks={stage: opened.network(stage, fabric) for stage in stages},
        maps=tuple(dict.fromkeys(maps)),
        target=None if label is None else classes.index(label),
        layer=layer or opened.record["model"]["layer"],
    )


def _read(path: Path, opened: FinishedRun, start: float) -> Pixels:
    """Read what a run's networks take: an image, or a clip of as many frames, equally far apart."""
    clip = opened.record.get("clip")
    if clip is None:
        return read_image(path)
    if path.suffix == CLIP_SUFFIX:
        return read_clip(path)
    return read_video(path, [start + frame / clip["rate"] for frame in range(clip["frames"])])


def _answer(
    question: _Question, stage: str, pixels: torch.Tensor, path: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Give what a network says about an image, and the maps."""
    opened, network = question.opened, question.networks[stage]
    classes, multi_label = opened.record["classes"], opened.record["multi_label"]
    loss = judging_loss(opened.config, network, question.layer, question.target)
    images = inputs_of(pixels[None], network, question.fabric.device)
    with question.fabric.autocast():
        seen = loss.compare(images)
        maps = _maps(question, stage, seen, images, path)
    values = squash_logits(seen.logits, multi_label=multi_label)
    chosen = predict(values, multi_label=multi_label)[0]
    named = list(zip(classes, values[0], chosen, strict=True))
    said = {
        "top": classes[int(values[0].argmax())],
        "explained": classes[int(seen.classes[0])],
        "predicted": [name for name, _, on in named if on],
        "probabilities": {name: round(float(p), 4) for name, p, _ in named},
        "correct": None,
        "correlation": round(float(seen.correlation[0]), 4),
        "mask_contrast": defined(float(contrast_of(seen)[0])),
        "iou": None,
    }
    return said, maps


def _maps(
    question: _Question, stage: str, seen: Comparison, images: torch.Tensor, path: Path
) -> dict[str, np.ndarray]:
    """Give the maps that were asked for, from the comparison where it has them."""
    network = question.networks[stage]
    where = f"{path} with {network.name} ({stage})"
    found = {}
    for name in question.maps:
        try:
            values = _map(name, seen, network, images, question.layer)
        except InputError as error:
            raise InputError(f"no map {name!r} of {where}: {error}") from error
        if not bool(values.isfinite().all()):
            raise InputError(f"map {name!r} of {where} is not finite: try --precision 32-true")
        found[name] = values[0].detach().double().cpu().numpy()
    return found


def _map(
    name: str, seen: Comparison, network: Network, images: torch.Tensor, layer: str
) -> torch.Tensor:
    """Give one map; where the run does not mask, the mask is 1 everywhere."""
    if name == MASK:
        return torch.ones_like(images[:, 0]) if seen.mask is None else seen.mask
    if name in seen.maps:
        return seen.maps[name]
    attention = attention_named(name)
    of_layer = attention.resolution == "layer"
    return attention(network.module, images, seen.classes, layer=layer if of_layer else None)
