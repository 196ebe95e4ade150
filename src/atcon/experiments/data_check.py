"""Check the data that a run would see: the same images, the same parts, the same draw."""

from collections.abc import Callable
from pathlib import Path

from atcon.data import Reader, unlabelled, unlabelled_clips
from atcon.data.checks import DataCheck, check_data
from atcon.data.checks.finding import Finding
from atcon.data.checks.run import Problem
from atcon.data.clips import EVENTS
from atcon.data.image_set import ImageSet
from atcon.data.manifest import MANIFEST
from atcon.errors import LeakError
from atcon.experiments.config import data_path, load_config, shipped
from atcon.experiments.parts import POOL, split_of
from atcon.experiments.progress import Progress
from atcon.experiments.sections import RunConfig
from atcon.experiments.sources import image_set_of
from atcon.types import Example

_MARKS = {
    "voc": ("ImageSets/Main", "VOC2012/ImageSets/Main", "VOCdevkit/VOC2012/ImageSets/Main"),
    "clips": (MANIFEST, EVENTS),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "hf": ("dataset_dict.json", "dataset_info.json"),
    "xml": ("*.xml", "Annotations/*.xml", "train/*.xml"),
}
"""What lies in a folder of a data set of this name; others are folders of images."""


def check(source: str, overrides: list[str], *, progress: Progress | None = None) -> DataCheck:
    """Check the data of a configuration, or of a folder.

    The split is drawn as a run would draw it; of a folder, where `data.per_class` is overridden.

    Args:
        source: A shipped configuration, a YAML file, a folder of data, or a CSV of events.
        overrides: `key=value` for the configuration.
        progress: Is told how many images were read.

    Raises:
        InputError: There is no such configuration or folder, or no data set can be made of it.
    """
    progress = progress or Progress()
    is_data = source not in shipped() and (Path(source).is_dir() or source.endswith(".csv"))
    config = _data_config(source, overrides) if is_data else load_config(source, overrides)
    draws = not is_data or any(one.startswith("data.per_class=") for one in overrides)
    lenient = config.data.model_copy(update={"on_bad_image": "skip"})
    try:
        image_set = image_set_of(lenient, progress)
    except LeakError as error:
        return _parted(config, str(error))
    extra = _unlabelled(config, image_set)
    total = sum(len(part) for part in (image_set.pool, image_set.validation or (), image_set.test))
    with progress:
        progress.begin("reading", total + (len(extra.pool) if extra else 0), image_set.unit)
        return check_data(
            image_set,
            unlabelled=extra,
            draw=(lambda problem: split_of(config, _Known(image_set, problem))) if draws else None,
            ends_run=config.data.on_bad_image == "error",
            advance=lambda count: progress.advance({}, count),
        )


def _data_config(source: str, overrides: list[str]) -> RunConfig:
    """Make a configuration of a folder, by what lies in it, or of a table of events."""
    root = Path(source)
    name = next((n for n, marks in _MARKS.items() if any(map(_in(root), marks))), None)
    if not root.is_dir():
        name = "clips"
    given = [f"data.root={root.absolute()}", *([f"data.name={name}"] if name else [])]
    return load_config("folder", [*given, *overrides])


def _in(root: Path) -> Callable[[str], bool]:
    return lambda mark: any(root.glob(mark))


def _parted(config: RunConfig, message: str) -> DataCheck:
    """Say of a set that cannot be made, as its own parts leak, that this is what harms."""
    finding = Finding("groups", "harm", f"a group in two parts: {message}")
    return DataCheck(config.data.name, config.data.root, {}, {}, (finding,), "clips")


def _unlabelled(config: RunConfig, like: ImageSet) -> ImageSet | None:
    root = config.consistency.unlabelled_root
    if root in (None, POOL):
        return None
    base = data_path(str(root), "consistency.unlabelled_root")
    return unlabelled(base) if like.frames is None else unlabelled_clips(base, like)


class _Known(Reader):
    """A reader that has tried every image before: the draw of a split reads none again."""

    def __init__(self, image_set: ImageSet, problem: Problem) -> None:
        super().__init__(image_set, size=1)
        self._problem = problem

    def problem(self, example: Example) -> str | None:
        """Why the image cannot be decoded, or None."""
        return self._problem(example)
