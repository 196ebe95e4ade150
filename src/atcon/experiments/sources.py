"""From a configuration to a data set and a network."""

from importlib.resources import as_file, files
from pathlib import Path

from atcon.data import ClipForm, ImageSet, clips, digits, folder, voc
from atcon.errors import InputError
from atcon.experiments.config import data_path
from atcon.experiments.sections import DataConfig, RunConfig
from atcon.models import ONLINE, Network, build

SOURCE_WEIGHTS = "source"
"""The name of the weights that ship with the package, for the embedded digits."""


_WITHOUT_EFFECT = {
    "digits": ("root", "classes", "csv", "boxes", "group", "download", "clip", "division_seed"),
    "voc": ("csv", "boxes", "group", "clip", "division_seed"),
    "folder": ("download", "clip", "division_seed"),
    "clips": ("csv", "boxes", "group", "download"),
}
"""Keys of `data` that a data set does not look at; giving one is a mistake worth an error."""


def image_set_of(config: DataConfig) -> ImageSet:
    """Index the data set that a configuration names; no image is decoded.

    Raises:
        InputError: It is missing or malformed, or a key is given that it does not look at.
    """
    for key in _WITHOUT_EFFECT[config.name]:
        if value := getattr(config, key):
            raise InputError(f"data.{key} = {value!r} has no effect with data.name={config.name}")
    if config.name == "digits":
        return digits()
    if config.root is None:
        raise InputError(f"data.root is missing: data.name={config.name} needs its folder")
    if config.name == "voc":
        fetch = "; or fetch VOC 2012 there with --set data.download=true"
        return voc(
            Path(config.root) if config.download else data_path(config.root, "data.root", fetch),
            classes=config.classes,
            download=config.download,
            on_bad_image=config.on_bad_image,
        )
    if config.name == "clips":
        return clips(
            data_path(config.root, "data.root"),
            form=None if config.clip is None else ClipForm(**config.clip.model_dump()),
            seed=config.division_seed,
            classes=config.classes,
            on_bad_image=config.on_bad_image,
        )
    return folder(
        data_path(config.root, "data.root"),
        csv=config.csv,
        boxes=config.boxes,
        classes=config.classes,
        group=config.group,
        on_bad_image=config.on_bad_image,
    )


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
        f"model.name: {network.name} takes {network.takes}, but {image_set.name} holds "
        f"{image_set.unit}; {advice}"
    )


def network_of(config: RunConfig, classes: int) -> Network:
    """Build the network of a configuration with its starting weights.

    Raises:
        InputError: The name is unknown, or the weights are missing or do not fit.
    """
    name, weights = config.model.name, config.model.weights
    if weights == SOURCE_WEIGHTS:
        source = files("atcon.models") / "digits_source.safetensors"
        with as_file(source) as path:
            return build(name, classes=classes, weights=path, seed=config.seed)
    if weights is not None and weights not in ONLINE:
        return build(
            name, classes=classes, weights=data_path(weights, "model.weights"), seed=config.seed
        )
    return build(name, classes=classes, weights=weights, seed=config.seed)
