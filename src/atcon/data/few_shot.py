"""The few-shot protocol: V validation images first, then N images of every class from the rest.

All draws come from the seed alone: not from the global random state, nor from the order of files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atcon.data.image_set import ImageSet
from atcon.errors import InputError
from atcon.types import Example

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Which images a run trains on, selects on and is tested on; the three are disjoint.

    Attributes:
        train: N images per class, grouped by the class they were drawn for.
        validation: For the selection of epochs and thresholds.
        test: Opened once, at the end.
        skipped: Name and reason of images that were passed over.
        seed: Of the draws.
        per_class: N.
        classes: The names that the labels point at.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    skipped: tuple[tuple[str, str], ...]
    seed: int
    per_class: int
    classes: tuple[str, ...]

    def to_record(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Give the content of `split.json`; an image without a hash so far gets null."""
        return {
            "seed": self.seed,
            "per_class": self.per_class,
            "classes": list(self.classes),
            **{part: [self._entry(e, hashes) for e in getattr(self, part)] for part in PARTS},
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
        }

    def _entry(self, example: Example, hashes: Mapping[str, str]) -> dict[str, Any]:
        labels = [self.classes[label] for label in example.labels]
        entry = {"name": example.name, "labels": labels, "sha256": hashes.get(example.name)}
        return entry if example.group is None else {**entry, "group": example.group}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], image_set: ImageSet) -> "Split":
        """Find the images of a `split.json` in the data set again.

        Raises:
            InputError: The record is damaged, the classes differ, an image is missing, or its
                labels have changed.
        """
        known = _by_name((*image_set.pool, *(image_set.validation or ()), *image_set.test))
        try:
            if tuple(record["classes"]) != image_set.classes:
                raise InputError(
                    f"split.json: its classes {record['classes']} are not those of "
                    f"{image_set.name}: {list(image_set.classes)}; use the run's own data.classes"
                )
            parts = {
                part: tuple(_find(entry, known, image_set) for entry in record[part])
                for part in PARTS
            }
            skipped = tuple((entry["name"], entry["reason"]) for entry in record["skipped"])
            seed, per_class = record["seed"], record["per_class"]
        except (KeyError, TypeError) as error:
            raise InputError(f"split.json: not a record of a split ({error!r})") from error
        return cls(
            **parts, skipped=skipped, seed=seed, per_class=per_class, classes=image_set.classes
        )


def few_shot_split(
    image_set: ImageSet,
    *,
    per_class: int,
    validation_images: int,
    seed: int,
    test_images: int | None = None,
    problem: Callable[[Example], str | None] | None = None,
) -> Split:
    """Draw a split (protocol: METHOD section 5).

    The validation images are drawn first (from `image_set.validation` where the set has it), so
    they are the same for every N. An image is drawn for one class and carries all its labels.
    Where images have groups, whole groups are drawn for validation (the last one may be cut), and
    nothing else of theirs is trained on.

    Args:
        image_set: Where to draw from.
        per_class: N.
        validation_images: V; 0 where no labels can be spared.
        seed: Of all draws.
        test_images: A seeded subset of the test images instead of all.
        problem: Says why an image cannot be used (None: it can); the next one is drawn instead.

    Raises:
        InputError: A class has too few images, or more are asked for than there are.
    """
    _check_request(image_set, per_class, validation_images, seed)
    candidates = _Candidates(problem)
    generator = np.random.default_rng([seed, 0])
    own = image_set.validation is not None
    source = image_set.pool if image_set.validation is None else image_set.validation
    validation = candidates.take(_together(_shuffled(source, generator)), validation_images)
    if len(validation) < validation_images:
        where = "the validation part" if own else "the training pool"
        raise InputError(
            f"data.validation_images: {validation_images} {image_set.unit} are asked for, but "
            f"{where} of {image_set.name} holds {len(validation)} usable ones; ask for fewer"
        )
    taken = {group_of(example) for example in validation}
    rest = [e for e in _shuffled(image_set.pool, generator) if group_of(e) not in taken]
    train = _draw_classes(image_set, rest, per_class, candidates, 0 if own else validation_images)
    test = draw_test(image_set, test_images, seed)
    skipped = (*image_set.skipped, *candidates.skipped)
    return Split(train, validation, test, skipped, seed, per_class, image_set.classes)


def group_of(example: Example) -> tuple[str, str]:
    """Give what must stay in one part with an image: its group, or the image alone."""
    return ("image", example.name) if example.group is None else ("group", example.group)


def _together(examples: Sequence[Example]) -> list[Example]:
    """Keep the order of the first of each group, and bring the others of it there."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        groups.setdefault(group_of(example), []).append(example)
    return [example for group in groups.values() for example in group]


class _Candidates:
    """Asks once per image whether it can be read, and only for images that would be drawn."""

    def __init__(self, problem: Callable[[Example], str | None] | None) -> None:
        self._problem = problem
        self._known: dict[str, bool] = {}
        self.skipped: list[tuple[str, str]] = []

    def usable(self, example: Example) -> bool:
        if self._problem is None:
            return True
        if example.name not in self._known:
            reason = self._problem(example)
            self._known[example.name] = reason is None
            if reason is not None:
                self.skipped.append((example.name, f"{reason}; the next one was drawn"))
        return self._known[example.name]

    def take(self, examples: Iterable[Example], count: int) -> tuple[Example, ...]:
        taken: list[Example] = []
        for example in examples:
            if len(taken) == count:
                break
            if self.usable(example):
                taken.append(example)
        return tuple(taken)


def _draw_classes(
    image_set: ImageSet,
    rest: Sequence[Example],
    per_class: int,
    candidates: _Candidates,
    held_back: int,
) -> tuple[Example, ...]:
    """Give every class one image per round.

    A class whose images are all taken asks the takers to move to another image (augmenting paths
    of a bipartite matching), so the draw fails only where N images per class do not exist.
    """
    orders = [[e for e in rest if label in e.labels] for label in range(len(image_set.classes))]
    owner: dict[str, int] = {}
    for drawn in range(per_class):
        for label, name in enumerate(image_set.classes):
            if not _claim(label, orders, owner, candidates, set()):
                have = sum(candidates.usable(e) for e in orders[label])
                raise InputError(_too_few(image_set, name, have, per_class, drawn, held_back))
    return tuple(
        e for label, order in enumerate(orders) for e in order if owner.get(e.name) == label
    )


def _claim(
    label: int,
    orders: Sequence[Sequence[Example]],
    owner: dict[str, int],
    candidates: _Candidates,
    asked: set[int],
) -> bool:
    asked.add(label)
    for example in orders[label]:
        if example.name not in owner and candidates.usable(example):
            owner[example.name] = label
            return True
    for example in orders[label]:
        other = owner.get(example.name)
        if (
            other is not None
            and other not in asked
            and _claim(other, orders, owner, candidates, asked)
        ):
            owner[example.name] = label
            return True
    return False


def _too_few(
    image_set: ImageSet, name: str, have: int, need: int, largest: int, held_back: int
) -> str:
    data, unit = image_set.name, image_set.unit
    place = f"besides {held_back} validation {unit}" if held_back else "to draw from"
    if have == 0:
        return (
            f"data.per_class: class {name!r} of {data} has no {unit.removesuffix('s')} {place} and "
            f"{need} are needed; leave it out of data.classes or add {unit}"
        )
    shared = " (some of them needed by other classes)" if have >= need else ""
    advice = f"the largest data.per_class possible is {largest}" if largest else "none is possible"
    return (
        f"data.per_class: class {name!r} of {data} has {have} {unit} {place}{shared}, but "
        f"{need} are needed; {advice}"
    )


def draw_test(image_set: ImageSet, count: int | None, seed: int) -> tuple[Example, ...]:
    """Draw `count` test images; None takes all.

    Raises:
        InputError: There are fewer.
    """
    if count is None:
        return image_set.test
    if not 1 <= count <= len(image_set.test):
        raise InputError(
            f"data.test_images: {count} are asked for, but {image_set.name} has "
            f"{len(image_set.test)} test {image_set.unit}"
        )
    chosen = _shuffled(image_set.test, np.random.default_rng([seed, 1]))[:count]
    return tuple(sorted(chosen, key=lambda example: example.name))


def _check_request(image_set: ImageSet, per_class: int, validation_images: int, seed: int) -> None:
    if per_class < 1:
        raise InputError(f"data.per_class: {per_class} is not positive")
    if validation_images < 0:
        raise InputError(f"data.validation_images: {validation_images} is negative")
    if seed < 0:
        raise InputError(f"seed: {seed} is negative; use 0 or more")
    held_out = _by_name((*(image_set.validation or ()), *image_set.test))
    both = sorted(example.name for example in image_set.pool if example.name in held_out)
    if both:
        raise InputError(
            f"{image_set.name}: {len(both)} {image_set.unit} are in the training pool and also "
            f"held out, such as {both[0]}; remove them from one of the two"
        )
    _check_groups(image_set)


def _check_groups(image_set: ImageSet) -> None:
    """Refuse a data set with a group in two of its parts: what is tested would have been seen."""
    seen: dict[str, str] = {}
    parts = (image_set.pool, image_set.validation or (), image_set.test)
    for part, examples in zip(PARTS, parts, strict=True):
        for group in {example.group for example in examples if example.group is not None}:
            if seen.setdefault(group, part) != part:
                raise InputError(
                    f"{image_set.name}: group {group!r} is in the {seen[group]} part and in the "
                    f"{part} part; put all of a group into one part"
                )


def _shuffled(examples: Iterable[Example], generator: np.random.Generator) -> list[Example]:
    ordered = sorted(examples, key=lambda example: example.name)
    return [ordered[index] for index in generator.permutation(len(ordered))]


def _by_name(examples: Iterable[Example]) -> dict[str, Example]:
    return {example.name: example for example in examples}


def _find(entry: Mapping[str, Any], known: Mapping[str, Example], image_set: ImageSet) -> Example:
    name = entry["name"]
    if name not in known:
        raise InputError(f"split.json: {name} is no longer in {image_set.name}")
    labels = [image_set.classes[label] for label in known[name].labels]
    if labels != list(entry["labels"]):
        raise InputError(
            f"split.json: the labels of {name} were {entry['labels']} and are now {labels}; "
            f"restore the annotations or start a new run"
        )
    return known[name]
