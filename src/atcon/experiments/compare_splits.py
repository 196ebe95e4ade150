"""Whether runs can be compared: the same task, the same images; every difference is named."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from atcon.errors import InputError
from atcon.experiments.compare_records import SEED_FOLDER, FinishedFolder, Image

_SHOWN = 3
"""How many names a message gives before it stops."""


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed only, by rising seed."""

    label: str
    runs: tuple[FinishedFolder, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of every run."""
        return tuple(run.seed for run in self.runs)


def methods_of(runs: Sequence[FinishedFolder]) -> list[Method]:
    """Group runs that differ in their seed only, in the order in which they are given.

    Runs of the same configuration *and* seed (of two versions of the code, say) are told apart by
    the folder that they lie in, and where that is the same, by their own.
    """
    alike: dict[str, list[FinishedFolder]] = {}
    for run in runs:
        alike.setdefault(run.configuration, []).append(run)
    groups = [part for group in alike.values() for part in _of_distinct_seeds(group)]
    groups.sort(key=lambda group: min(map(runs.index, group)))
    places = [_place(group) for group in groups]
    more = [
        "" if place != group[0].root or len(group) == 1 else f" +{len(group) - 1}"
        for place, group in zip(places, groups, strict=True)
    ]
    return [
        Method(label + rest, tuple(sorted(group, key=lambda run: run.seed)))
        for label, rest, group in zip(short_names(places), more, groups, strict=True)
    ]


def _of_distinct_seeds(group: list[FinishedFolder]) -> list[list[FinishedFolder]]:
    if len({run.seed for run in group}) == len(group):
        return [group]
    by_parent = _grouped(group, [run.root.resolve().parent for run in group])
    if all(len({run.seed for run in part}) == len(part) for part in by_parent):
        return by_parent
    return [[run] for run in group]


def _grouped(runs: list[FinishedFolder], keys: list[Path]) -> list[list[FinishedFolder]]:
    order = sorted(range(len(runs)), key=lambda at: str(keys[at]))
    return [[runs[at] for at in part] for _, part in groupby(order, key=lambda at: keys[at])]


def _place(group: list[FinishedFolder]) -> Path:
    """The folder of `seed-K` folders, or the first run's own."""
    parents = {run.root.resolve().parent for run in group}
    repeated = all(run.root.resolve().name.startswith(SEED_FOLDER) for run in group)
    if len(group) > 1 and len(parents) == 1 and repeated:
        return parents.pop()
    return group[0].root


def short_names(places: Sequence[Path]) -> list[str]:
    """The last parts of every path: as many as tell them apart, and the parent of a `seed-K`."""
    whole = [place.resolve().parts for place in places]
    names = []
    for parts in whole:
        count = 2 if parts[-1].startswith(SEED_FOLDER) else 1
        while count < len(parts) and sum(one[-count:] == parts[-count:] for one in whole) > 1:
            count += 1
        names.append("/".join(parts[-count:]))
    return names


def check_comparable(methods: Sequence[Method]) -> None:
    """Hold that all runs have one task, and the runs of a seed the same images to learn from.

    Raises:
        InputError: They have not; the difference is named.
    """
    first = methods[0]
    for method in methods:
        for run in method.runs:
            _check_task(first.runs[0], run)
    for method in methods[1:]:
        _check_seeds(first, method)
        for ours, theirs in zip(first.runs, method.runs, strict=True):
            for part in ("validation", "train"):
                check_images(ours, theirs, part)


def check_images(
    ours: FinishedFolder,
    theirs: FinishedFolder,
    part: str,
    names: tuple[Collection[str], Collection[str]] | None = None,
) -> None:
    """Hold that a part of two splits has the same images with the same labels and content.

    Args:
        ours: One run.
        theirs: The other.
        part: `train`, `validation` or `test`.
        names: The images of the part that either used; by default all.

    Raises:
        InputError: It has not; the difference is named.
    """
    first, second = ours.parts[part], theirs.parts[part]
    used = names or (first, second)
    only = [sorted(set(used[0]) - set(used[1])), sorted(set(used[1]) - set(used[0]))]
    what = f"{_PARTS[part]} {ours.unit} of {ours.root} and {theirs.root}"
    if any(only):
        said = [
            f"{len(some)} only in {run.root} ({_listed(some)})"
            for some, run in zip(only, (ours, theirs), strict=True)
            if some
        ]
        raise InputError(f"splits differ: {what}: {', '.join(said)}{_advice(ours, theirs, part)}")
    _check_labels(what, first, second, sorted(used[0]))
    _check_content(what, first, second, sorted(used[0]))


def _check_labels(
    what: str, first: Mapping[str, Image], second: Mapping[str, Image], names: Iterable[str]
) -> None:
    others = [name for name in names if set(first[name].labels) != set(second[name].labels)]
    if others:
        name = others[0]
        ours, theirs = ("; ".join(part[name].labels) for part in (first, second))
        raise InputError(
            f"splits differ: {what}: {len(others)} with other labels ({_listed(others)}); "
            f"{name} is {ours} in the first and {theirs} in the second"
        )


def _check_content(
    what: str, first: Mapping[str, Image], second: Mapping[str, Image], names: Iterable[str]
) -> None:
    """Compare hashes; an image that one run did not read has none."""
    pairs = [(name, first[name].sha256, second[name].sha256) for name in names]
    others = [name for name, ours, theirs in pairs if ours and theirs and ours != theirs]
    if others:
        raise InputError(
            f"splits differ: {what}: {len(others)} with the same name but other content "
            f"(SHA-256): {_listed(others)}"
        )


def _check_task(ours: FinishedFolder, theirs: FinishedFolder) -> None:
    pair = f"{ours.root} and {theirs.root}"
    if ours.classes != theirs.classes:
        said = [
            f"{_listed(some)} only in {run.root}"
            for some, run in (
                ([name for name in ours.classes if name not in theirs.classes], ours),
                ([name for name in theirs.classes if name not in ours.classes], theirs),
            )
            if some
        ]
        raise InputError(f"classes of {pair} differ: {', '.join(said) or 'another order'}")
    if ours.multi_label != theirs.multi_label:
        kinds = {True: "multi-label", False: "single-label"}
        raise InputError(
            f"{ours.root} is {kinds[ours.multi_label]}, {theirs.root} "
            f"{kinds[theirs.multi_label]}: their metrics are not comparable"
        )
    if ours.per_class != theirs.per_class:
        raise InputError(
            f"splits differ: data.per_class is {ours.per_class} in {ours.root}, but "
            f"{theirs.per_class} in {theirs.root}"
        )


def _check_seeds(ours: Method, theirs: Method) -> None:
    if ours.seeds == theirs.seeds:
        return
    lacks = [
        f"{method.label} lacks seed {', '.join(map(str, sorted(missing)))}"
        for method, missing in (
            (ours, set(theirs.seeds) - set(ours.seeds)),
            (theirs, set(ours.seeds) - set(theirs.seeds)),
        )
        if missing
    ]
    seeds = [f"{one.label}: {', '.join(map(str, one.seeds))}" for one in (ours, theirs)]
    raise InputError(
        f"differences are paired by seed, but {' and '.join(lacks)} ({'; '.join(seeds)}); "
        "run the missing seeds, or leave the others out"
    )


_PARTS = {"train": "training", "validation": "validation", "test": "test"}


def _advice(ours: FinishedFolder, theirs: FinishedFolder, part: str) -> str:
    if part == "test" and ours.seed != theirs.seed:
        return (
            "; data.test_images draws others for every seed: leave it out, or compare the runs of "
            "one seed"
        )
    return ""


def _listed(names: Iterable[str]) -> str:
    some = list(names)
    return ", ".join(some[:_SHOWN]) + (", …" if len(some) > _SHOWN else "")
