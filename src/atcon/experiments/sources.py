"""From a configuration to a data set and a network."""

from importlib.resources import as_file, files
from pathlib import Path

from atcon.data import ClipForm, ImageSet, clips, coco, digits, folder, hf, svhn, voc, xml_folder
from atcon.errors import InputError
from atcon.experiments.config import data_path
from atcon.experiments.progress import Progress
from atcon.experiments.sections import DataConfig, RunConfig
from atcon.models import ONLINE, Network, build

SOURCE_WEIGHTS = "source"
"""The name of the weights that ship with the package, for the embedded digits."""


_OWN = {
    "digits": set(),
    "voc": {"root", "classes", "download"},
    "svhn": {"root", "extra", "published_parts", "download"},
    "folder": {"root", "classes", "csv", "boxes", "group"},
    "coco": {"root", "classes", "annotations", "group"},
    "xml": {"root", "classes", "group"},
    "hf": {"root", "classes", "label", "group", "download"},
    "clips": {"root", "classes", "clip", "division_seed"},
}
"""Which keys of `data` a data set looks at, of those that only some do; giving another one is a
mistake worth an error."""


def image_set_of(config: DataConfig, progress: Progress | None = None) -> ImageSet:
    """Index the data set that a configuration names; no image is decoded.

    Args:
        config: The section `data`.
        progress: Is told of a download.

    Raises:
        InputError: It is missing or malformed, or a key is given that it does not look at.
    """
    for key in sorted(set().union(*_OWN.values()) - _OWN[config.name]):
        if value := getattr(config, key):
            raise InputError(f"data.{key} = {value!r} has no effect with data.name={config.name}")
    if config.name == "digits":
        return digits()
    if config.root is None:
        raise InputError(f"data.root is missing: data.name={config.name} needs its folder")
    if config.name in _FETCHED:
        return _FETCHED[config.name](config, config.root, progress or Progress())
    return _SOURCES[config.name](config, config.root)


def check_sources(config: RunConfig) -> None:
    """See whether the data set and the starting weights of a run are there; decode no image.

    Raises:
        InputError: As for `image_set_of`, or the weights are missing.
    """
    if not config.data.download:
        image_set_of(config.data)
    given = config.model.weights
    if given is not None and given != SOURCE_WEIGHTS and given not in ONLINE:
        data_path(given, "model.weights")


def _voc(config: DataConfig, root: str, progress: Progress) -> ImageSet:
    return voc(
        _fetched(root, "VOC 2012", download=config.download),
        classes=config.classes,
        download=config.download,
        on_bad_image=config.on_bad_image,
        watch=progress,
    )


def _svhn(config: DataConfig, root: str, progress: Progress) -> ImageSet:
    return svhn(
        _fetched(root, "SVHN", download=config.download),
        extra=config.extra,
        published_parts=config.published_parts,
        download=config.download,
        on_bad_image=config.on_bad_image,
        watch=progress,
    )


def _fetched(root: str, what: str, *, download: bool) -> Path:
    """Give the folder of a data set; one that is to be downloaded need not exist."""
    fetch = f"; or fetch {what} there with --set data.download=true"
    return Path(root) if download else data_path(root, "data.root", fetch)


def _folder(config: DataConfig, root: str) -> ImageSet:
    return folder(
        data_path(root, "data.root"),
        csv=config.csv,
        boxes=config.boxes,
        classes=config.classes,
        group=config.group,
        on_bad_image=config.on_bad_image,
    )


def _coco(config: DataConfig, root: str) -> ImageSet:
    if config.annotations is None:
        raise InputError("data.annotations is missing: data.name=coco needs its JSON file")
    return coco(
        data_path(root, "data.root"),
        annotations=config.annotations,
        classes=config.classes,
        group=config.group,
        on_bad_image=config.on_bad_image,
    )


def _xml(config: DataConfig, root: str) -> ImageSet:
    return xml_folder(
        data_path(root, "data.root"),
        classes=config.classes,
        group=config.group,
        on_bad_image=config.on_bad_image,
    )


def _hf(config: DataConfig, root: str) -> ImageSet:
    fetch = "; or fetch a set of the hub of this name with --set data.download=true"
    return hf(
        root if config.download else data_path(root, "data.root", fetch),
        label=config.label,
        classes=config.classes,
        group=config.group,
        download=config.download,
        on_bad_image=config.on_bad_image,
    )


def _clips(config: DataConfig, root: str) -> ImageSet:
    return clips(
        data_path(root, "data.root"),
        form=None if config.clip is None else ClipForm(**config.clip.model_dump()),
        seed=config.division_seed,
        classes=config.classes,
        on_bad_image=config.on_bad_image,
    )


_FETCHED = {"voc": _voc, "svhn": _svhn}
_SOURCES = {
    "folder": _folder,
    "coco": _coco,
    "xml": _xml,
    "hf": _hf,
    "clips": _clips,
}


def check_fit(network: Network, image_set: ImageSet) -> None:
    """Refuse images for a network of clips, and clips for one of images.

    Raises:
        InputError: They do not fit.
    """
    if network.takes in (None, image_set.unit):
        return
    advice = (
        f"to show an image network every frame, set model.name to frames/{network.name}"
        if image_set.unit == "clips"
        else "choose a network of images"
    )
    raise InputError(
        f"model.name: {network.name} takes {network.takes}, but data.name={image_set.name} gives "
        f"{image_set.unit}; {advice}"
    )


def network_of(config: RunConfig, classes: int) -> Network:
    """Build the network of a configuration with its starting weights.

    Raises:
        InputError: The name is unknown, or the weights are missing or do not fit.
    """
    given = config.model.weights
    if given == SOURCE_WEIGHTS:
        source = files("atcon.models") / "digits_source.safetensors"
        with as_file(source) as path:
            return _built(config, classes, path)
    if given is not None and given not in ONLINE:
        return _built(config, classes, data_path(given, "model.weights"))
    return _built(config, classes, given)


def _built(config: RunConfig, classes: int, weights: str | Path | None) -> Network:
    return build(
        config.model.name,
        classes=classes,
        weights=weights,
        seed=config.seed,
        new_head=config.model.new_head,
    )
