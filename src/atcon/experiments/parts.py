"""Which images a run trains on, chooses by, watches and judges; no image is in two parts."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from atcon.data import (
    Decoded,
    Reader,
    Split,
    few_shot_split,
    group_of,
    left_over,
    load,
    unlabelled,
    unlabelled_clips,
)
from atcon.errors import InputError
from atcon.experiments.config import data_path
from atcon.experiments.resampling import groups_of
from atcon.experiments.sections import RunConfig
from atcon.types import Example

_NAMED = 3
_PARTS = ("train", "validation", "test", "unlabelled")
POOL = "pool"
"""As `consistency.unlabelled_root`: what is left of the data set's own training images."""


def split_of(config: RunConfig, reader: Reader) -> Split:
    """Draw the parts; what is judged is the test part, or what is left of the training images."""
    split = few_shot_split(
        reader.image_set,
        per_class=config.data.per_class,
        validation_images=config.data.validation_images,
        seed=config.seed,
        test_images=config.data.test_images,
        problem=reader.problem if config.data.on_bad_image == "skip" else None,
    )
    if config.data.judged == "development":
        left = left_over(reader.image_set, split)
        count = config.data.test_images or len(left)
        split = replace(split, test=left[:count])
    groups_of((example.name, example.group) for example in split.test)  # refuses a single one
    return split


def unlabelled_of(config: RunConfig, reader: Reader, split: Split) -> Decoded | None:
    """Decode the extra images of consistency steps, if there are any."""
    settings = config.consistency
    if settings.unlabelled_root is None:
        return None
    if settings.unlabelled_root == POOL:
        spare, count = _spare(reader, split), config.evaluation.followed_images
        followed = {group_of(example) for example in spare[:count]}
        examples = tuple(e for e in spare[count:] if group_of(e) not in followed)
        source = reader
    else:
        root = data_path(settings.unlabelled_root, "consistency.unlabelled_root")
        clips = reader.image_set.frames is not None
        found = unlabelled_clips(root, reader.image_set) if clips else unlabelled(root)
        source = Reader(found, reader.size)
        examples = source.image_set.pool
    wanted = settings.unlabelled_images or len(examples)
    if wanted > len(examples):
        raise InputError(
            f"consistency.unlabelled_images: {wanted} are asked for, but "
            f"{settings.unlabelled_root} has {len(examples)}"
        )
    return load(source, examples[:wanted], config.data.on_bad_image)


def twins_of(parts: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Find what is in two parts under two names: files that are equal byte for byte.

    Args:
        parts: SHA-256 by name, of each part; what stands first is what was seen first.

    Returns:
        Name and remark of each that equals one of an earlier part.
    """
    seen: dict[str, str] = {}
    found = []
    for part, hashes in parts.items():
        found += [
            (name, f"equal to another one, byte for byte: {seen[sha]}")
            for name, sha in hashes.items()
            if sha in seen
        ]
        first = {sha: f"{name} ({part})" for name, sha in reversed(list(hashes.items()))}
        seen = {**first, **seen}
    return found


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """See that a run goes on with the images that it was begun with.

    Args:
        before: What `split.json` held so far.
        now: What it shall hold.
        path: Where it lies, for errors.

    Raises:
        InputError: A part has other images, or an image other content, labels or group; all that
            differ are counted, and some named.
    """
    for part in _PARTS:
        if part not in before or part not in now:
            continue
        old, new = _by_name(before[part], path), _by_name(now[part], path)
        changed = [name for name in {**old, **new} if _differ(old.get(name), new.get(name))]
        if changed:
            others = f" and {len(changed) - _NAMED} others" if len(changed) > _NAMED else ""
            raise InputError(
                f"{path}: the data have changed since this run was begun: {part} differs in "
                f"{', '.join(changed[:_NAMED])}{others}; put them back, or choose another --out"
            )


def _by_name(entries: Iterable[Mapping[str, Any]], path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        return {entry["name"]: entry for entry in entries}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no record of a split ({error!r})") from error


def _differ(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether something that both say is not the same; an image that was not opened has no hash."""
    if old is None or new is None:
        return True
    common = [key for key in old if key in new and None not in (old[key], new[key])]
    return any(old[key] != new[key] for key in common)


def followed_of(config: RunConfig, reader: Reader, split: Split) -> Decoded | None:
    """Decode the images that are measured after every round and choose nothing."""
    count, spare = config.evaluation.followed_images, _spare(reader, split)
    if count > len(spare):
        raise InputError(
            f"evaluation.followed_images: {count} are asked for, but the training images that are "
            f"left are {len(spare)}"
        )
    return load(reader, spare[:count], config.data.on_bad_image) if count else None


def _spare(reader: Reader, split: Split) -> tuple[Example, ...]:
    """Give the training images that are neither trained on nor chosen by nor judged."""
    judged = {group_of(example) for example in split.test}
    left = left_over(reader.image_set, split)
    return tuple(example for example in left if group_of(example) not in judged)
