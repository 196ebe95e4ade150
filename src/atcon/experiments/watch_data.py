"""Which new images or clips a finished run is asked to watch, and which ones it was trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atcon import records
from atcon.data import ImageSet, Split
from atcon.data.incoming import Incoming, incoming_clips, incoming_images, incoming_of
from atcon.errors import InputError, no_such
from atcon.experiments.config import load_config
from atcon.experiments.finished import FinishedRun
from atcon.experiments.progress import Progress
from atcon.experiments.sources import image_set_of
from atcon.types import Example

REFERENCE = 500
"""Test images that are measured where there are no validation images."""
PARTS = ("all", "train", "validation", "test")
"""Of a configuration's data."""


def new_data(
    opened: FinishedRun,
    source: Path,
    *,
    csv: str | None = None,
    group: str | None = None,
    part: str = "all",
    progress: Progress | None = None,
) -> Incoming:
    """Index what is to be watched; nothing is decoded.

    Args:
        opened: The run; its classes are those of the labels, its policy that of broken files.
        source: A folder of images or clips, a CSV, or a configuration (YAML) whose data are meant.
        csv: A table for the folder.
        group: Where groups come from, as in `data.group`.
        part: Of a configuration's data.
        progress: Told of a download.

    Raises:
        InputError: There is no such data, or it is not what the run's network takes.
    """
    if part not in PARTS:
        raise no_such("part", part, PARTS)
    classes, policy = opened.record["classes"], opened.config.data.on_bad_image
    if source.suffix in {".yaml", ".yml"}:
        if csv is not None or group is not None:
            raise InputError(f"{source}: write data.csv and data.group into the configuration")
        return _configured(opened, source, part, progress)
    if part != "all":
        raise InputError(f"--part {part}: only the data of a configuration (YAML) have parts")
    clip = opened.record.get("clip")
    if clip is None:
        return incoming_images(source, classes, csv=csv, group=group, on_bad_image=policy)
    if csv is not None or group is not None:
        raise InputError("clips have the labels and the patients of their clips.csv")
    return incoming_clips(source, classes, **clip, on_bad_image=policy)


def _configured(
    opened: FinishedRun, source: Path, part: str, progress: Progress | None
) -> Incoming:
    """Take the data of a configuration, whole or a part of them."""
    image_set = image_set_of(load_config(str(source)).data, progress)
    unit = opened.record.get("unit", "images")
    if image_set.unit != unit:
        raise InputError(f"{source} gives {image_set.unit}, but the run is of {unit}")
    parts: dict[str, Sequence[Example]] = {
        "train": image_set.pool,
        "validation": image_set.validation or (),
        "test": image_set.test,
    }
    parts["all"] = [example for examples in tuple(parts.values()) for example in examples]
    if not parts[part]:
        raise InputError(f"{source}: its data have no {part} part")
    return incoming_of(image_set, parts[part], opened.record["classes"])


def own_data(opened: FinishedRun, progress: Progress | None = None) -> tuple[ImageSet, Split]:
    """Find the images that a run was trained and validated on again.

    Raises:
        InputError: They are not where they were; `--set data.root=…` says where they are.
    """
    image_set = image_set_of(opened.config.data, progress)
    return image_set, Split.from_record(records.read_json(opened.folder.split), image_set)


def own_parts(split: Split) -> dict[str, tuple[Example, ...]]:
    """Give the held-out part that new samples are compared with, and the training part.

    Without validation images, up to `REFERENCE` test images, drawn by the seed, are held out.
    """
    if split.validation:
        return {"validation": split.validation, "train": split.train}
    order = np.random.default_rng([split.seed, 7]).permutation(len(split.test))
    drawn = tuple(split.test[at] for at in order[:REFERENCE])
    return {"test": drawn, "train": split.train}


def own_hashes(opened: FinishedRun) -> dict[str, str]:
    """Give the part of the run's own samples by the SHA-256 of their files."""
    record = records.read_json(opened.folder.split)
    return {
        entry["sha256"]: part
        for part in ("test", "validation", "train")
        for entry in record[part]
        if entry.get("sha256")
    }
