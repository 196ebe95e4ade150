"""Paired runs on a series of small training sets of a user's data: which, and what they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atcon.data import ImageSet, few_shot_split
from atcon.errors import InputError, no_such
from atcon.experiments.cell_record import RESAMPLED
from atcon.experiments.config import load_config, override_value
from atcon.experiments.grid import Experiment
from atcon.experiments.sections import RunConfig
from atcon.experiments.sources import image_set_of

SHARES = (16, 8, 4, 2)
"""The default sizes are the full set divided by these."""


@dataclass(frozen=True)
class Plan:
    """The runs of an advice.

    Attributes:
        experiment: Its grid.
        largest: Images of each class that the data can give to training.
        asked: The size that the verdict is about: the largest, or another one that was asked for.
        steps: Training steps of all cells of a size.
    """

    experiment: Experiment
    largest: int
    asked: int
    steps: Mapping[int, int]


def plan_of(
    source: str,
    overrides: Sequence[str] = (),
    *,
    sizes: Sequence[int] = (),
    seeds: int = 5,
    at: int | None = None,
    metric: str = "map",
    control: bool = False,
) -> Plan:
    """Plan paired runs on small training sets of a configuration's data; no image is decoded.

    Args:
        source: A shipped name or a YAML file.
        overrides: `key=value`.
        sizes: Images of each class; by default a sixteenth to a half of what the data can give.
        seeds: How many: 0, 1, 2, …
        at: The size that the verdict is about; by default what the data can give.
        metric: What is gained; it comes first on the page.
        control: Whether the uniform mask is trained, too.

    Raises:
        InputError: The configuration or its data are wrong, or the data give fewer images.
    """
    if metric not in RESAMPLED:
        raise no_such("metric", metric, RESAMPLED)
    if seeds < 2:
        raise InputError(f"--seeds {seeds}: how much seeds differ is seen from two or more")
    config = load_config(source, overrides)
    image_set = image_set_of(config.data)
    largest = _largest(image_set, config)
    asked = largest if at is None else at
    if asked < 1:
        raise InputError(f"--at {asked}: give a number of images of each class")
    chosen = tuple(sorted(set(sizes))) or _default_sizes(min(asked, largest))
    for size in (chosen[0], chosen[-1]):
        _check_size(image_set, config, size, largest, seeds)
    if asked < chosen[0]:
        raise InputError(
            f"--at {asked}: the smallest of the sizes is {chosen[0]}; add smaller ones"
        )
    own = {
        key: override_value(value) for key, _, value in (one.partition("=") for one in overrides)
    }
    fixed = {"evaluation.gallery": 0, "variants": {}, "baselines": []}
    experiment = Experiment(
        name=f"{config.name}{'-control' if control else ''}",
        title=f"{config.name}: what the method gains on small training sets",
        config=source if not Path(source).is_file() else str(Path(source).resolve()),
        set={**own, **fixed, "controls.uniform": control},
        per_class=chosen,
        seeds=tuple(range(seeds)),
        metrics=tuple(sorted(RESAMPLED, key=lambda one: one != metric)),
    )
    steps = {
        size: seeds * _steps(config, size * len(image_set.classes), control) for size in chosen
    }
    return Plan(experiment, largest, asked, steps)


def _largest(image_set: ImageSet, config: RunConfig) -> int:
    """Images of each class that the first seed can draw besides its validation images."""
    low, high = 1, min(_count(image_set, label) for label in range(len(image_set.classes)))
    _draw(image_set, config, low, 0)  # an error of anything but the size is raised here
    while low < high:
        middle = (low + high + 1) // 2
        try:
            _draw(image_set, config, middle, 0)
            low = middle
        except InputError:
            high = middle - 1
    return low


def _count(image_set: ImageSet, label: int) -> int:
    return sum(label in example.labels for example in image_set.pool)


def _draw(image_set: ImageSet, config: RunConfig, size: int, seed: int) -> None:
    few_shot_split(
        image_set,
        per_class=size,
        validation_images=config.data.validation_images,
        seed=seed,
        test_images=config.data.test_images,
    )


def _check_size(
    image_set: ImageSet, config: RunConfig, size: int, largest: int, seeds: int
) -> None:
    if size < 1:
        raise InputError(f"--sizes: {size} is no number of images")
    for seed in range(seeds):
        try:
            _draw(image_set, config, size, seed)
        except InputError as error:
            raise InputError(
                f"--sizes: {size} {image_set.unit} of each class are more than the data give "
                f"(seed 0 can draw {largest}; seed {seed}: {error})"
            ) from None


def _default_sizes(full: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(full / share)) for share in SHARES}))


def _steps(config: RunConfig, images: int, control: bool) -> int:
    """Training steps of one cell: its supervised stage, and each fine-tuning."""
    stages = ((config.supervised, 1), (config.consistency, 1 + control))
    return sum(times * one.epochs * -(-images // one.batch_size) for one, times in stages)
