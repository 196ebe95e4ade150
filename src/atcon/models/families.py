"""Where networks come from: our own, torchvision, timm, and the user's own code."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from atcon.downloads import Source, fetch
from atcon.errors import InputError
from atcon.models import cifar_resnet, digits_resnet
from atcon.models.frames import FrameNetwork
from atcon.models.heads import find_head
from atcon.models.weights import State, read_weights

ONLINE = ("imagenet", "kinetics400")
"""Weights by the name of what they were trained on, from the internet: of images, and of clips."""

FRAMES = "frames/"
"""Before the name of a network of images that looks at every frame of a clip."""

Takes = Literal["images", "clips"]

# What torchvision changes about a network when it loads the default weights: only so do the mean,
# the std and the input size of those weights hold. Auxiliary logits are for training from scratch.
_INCEPTION = {"aux_logits": False, "transform_input": True, "init_weights": True}
_OPTIONS: dict[str, dict[str, Any]] = {
    "inception_v3": _INCEPTION,
    "googlenet": _INCEPTION,
    "vit_h_14": {"image_size": 518},
}
_CIFAR = {f"cifar_resnet{depth}": blocks for depth, blocks in cifar_resnet.BLOCKS.items()}
_WELL_KNOWN = (
    *_CIFAR,
    *("digits_resnet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    *("squeezenet1_0", "squeezenet1_1", "alexnet", "vgg16", "vgg16_bn", "densenet121"),
    *("inception_v3", "googlenet", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t"),
    *("r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t"),
)


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its input.

    Attributes:
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, divided by.
        input_size: Usual side of the square input, in pixels.
        takes: What a sample is, where that is known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    takes: Takes | None = "images"


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
DIGITS = Preprocessing(digits_resnet.MEAN, digits_resnet.STD, digits_resnet.INPUT_SIZE)
# The published weights were trained on CIFAR-10 with ImageNet's mean and std: `trainer.py` of
# github.com/akamaster/pytorch_resnet_cifar10, and the statistics of their first BatchNorm say so.
CIFAR = Preprocessing(IMAGENET.mean, IMAGENET.std, cifar_resnet.INPUT_SIZE)


@dataclass(frozen=True)
class Family:
    """One source of networks.

    Attributes:
        owns: Whether a name is written as names of this family are.
        names: The names that exist; empty where they cannot be listed.
        make: A randomly initialised network of a name with so many classes.
        pretrained: The weights of a name of `ONLINE`, from the internet.
        preprocessing: What a network of a name expects.
    """

    owns: Callable[[str], bool]
    names: Callable[[], list[str]]
    make: Callable[[str, int], nn.Module]
    pretrained: Callable[[str, str], Mapping[str, Any]]
    preprocessing: Callable[[str, nn.Module], Preprocessing]


def family_of(name: str) -> Family:
    """Find the family of a network.

    Raises:
        InputError: No family has the name; the error gives the nearest that exist.
    """
    family = next(family for family in FAMILIES.values() if family.owns(name))
    known = family.names()
    if known and name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(nearest)}?" if nearest else "see atcon.models.names()"
        raise InputError(
            f"model.name: there is no network {name!r}; {advice} Names are torchvision's, "
            "'timm/NAME', 'digits_resnet', 'package.module:factory' for your own network, or "
            "'frames/NAME' for clips."
        )
    return family


def names() -> list[str]:
    """Names that `build` accepts without an extra: our own and torchvision's."""
    families = ("digits", "cifar", "torchvision", "video")
    return [name for key in families for name in FAMILIES[key].names()]


def resembles(weights: State) -> str | None:
    """Name the well-known network whose tensors, the head's apart, these are; None if not one."""
    shapes = {name: value.shape for name, value in weights.items()}
    for name in _WELL_KNOWN:
        with torch.device("meta"):
            state = family_of(name).make(name, 1).state_dict()
        same = sum(shapes.get(key) == value.shape for key, value in state.items())
        if same >= 0.8 * max(len(state), len(shapes)):
            return name
    return None


def _no_pretrained(name: str, weights: str) -> NoReturn:
    raise InputError(
        f"model.weights: {name} has no {weights!r} weights; give a file of weights, or none"
    )


def _offline(name: str, error: Exception, where: str) -> NoReturn:
    reason = str(error).strip().split("\n")[0]
    raise InputError(
        f"model.weights: the weights of {name} could not be downloaded ({reason}). "
        f"Without a connection, give a local file: fetch {where} on another machine and set "
        "model.weights to its path."
    ) from error


def _torchvision_names() -> list[str]:
    return [str(name) for name in list_models(module=torchvision.models)]


def _video_names() -> list[str]:
    return [str(name) for name in list_models(module=torchvision.models.video)]


def _torchvision_make(name: str, classes: int) -> nn.Module:
    network: nn.Module = get_model(
        name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})
    )
    return network


def _torchvision_pretrained(name: str, trained_on: str) -> Mapping[str, Any]:
    usual = "kinetics400" if name in _video_names() else "imagenet"
    if trained_on != usual:
        raise InputError(
            f"model.weights: {name} has no {trained_on!r} weights, but {usual!r} ones; set "
            f"model.weights to {usual}, or to a file of weights"
        )
    return _published(name, get_model_weights(name).DEFAULT.url)


def _published(name: str, url: str) -> Mapping[str, Any]:
    """Read weights that PyTorch publishes, from where PyTorch keeps them; fetch them if needed.

    The name of such a file holds the beginning of its SHA-256. It is checked also where the file
    is there already, which PyTorch does not: half a file would be taken for a whole one.
    """
    file = url.rpartition("/")[2]
    source = Source(f"the weights of {name}", url, file.rpartition("-")[2].partition(".")[0])
    try:
        return read_weights(fetch(source, Path(torch.hub.get_dir()) / "checkpoints" / file))
    except InputError as error:
        raise InputError(f"model.weights: {error}; or set model.weights to a local file") from error


def _torchvision_preprocessing(name: str, _: nn.Module) -> Preprocessing:
    crop = get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(tuple(crop.mean), tuple(crop.std), crop.crop_size[0])


def _video_preprocessing(name: str, network: nn.Module) -> Preprocessing:
    return replace(_torchvision_preprocessing(name, network), takes="clips")


def _frames_make(name: str, classes: int) -> nn.Module:
    inner = name.removeprefix(FRAMES)
    if inner.startswith(FRAMES) or inner in _video_names():
        raise InputError(
            f"model.name: {name!r}: what comes after {FRAMES!r} must be a network of images; "
            f"{inner!r} takes clips already"
        )
    backbone = family_of(inner).make(inner, classes)
    return FrameNetwork(backbone, find_head(backbone, inner, classes))


def _frames_pretrained(name: str, trained_on: str) -> Mapping[str, Any]:
    inner = name.removeprefix(FRAMES)
    return family_of(inner).pretrained(inner, trained_on)


def _frames_preprocessing(name: str, network: nn.Module) -> Preprocessing:
    inner, backbone = name.removeprefix(FRAMES), network.get_submodule("backbone")
    return replace(family_of(inner).preprocessing(inner, backbone), takes="clips")


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise InputError(
            "model.name: timm is not installed; install it with: pip install 'atcon[timm]'"
        ) from error


def _timm_names() -> list[str]:
    timm = _timm()
    listed = {*timm.list_models(), *timm.list_pretrained()}
    return sorted(f"timm/{name}" for name in listed)


def _timm_make(name: str, classes: int) -> nn.Module:
    network: nn.Module = _timm().create_model(name.removeprefix("timm/"), num_classes=classes)
    return network


def _timm_pretrained(name: str, trained_on: str) -> Mapping[str, Any]:
    if trained_on != "imagenet":
        _no_pretrained(name, trained_on)
    timm = _timm()
    try:
        network: nn.Module = timm.create_model(name.removeprefix("timm/"), pretrained=True)
    except Exception as error:  # each hub client has its own classes of network errors
        _offline(name, error, "its .safetensors file from timm's hub")
    return network.state_dict()


def _timm_preprocessing(_: str, network: nn.Module) -> Preprocessing:
    config = _timm().data.resolve_model_data_config(network)
    return Preprocessing(tuple(config["mean"]), tuple(config["std"]), config["input_size"][-1])


def _own_make(name: str, classes: int) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        inspect.signature(factory).bind(num_classes=classes)
    except Exception as error:  # importing the user's code can raise anything
        raise InputError(
            f"model.name: {name!r} gives no network ({type(error).__name__}: {error}). It must be "
            "'package.module:factory', importable from here (is its folder on PYTHONPATH?), and "
            "the factory must accept num_classes=..."
        ) from error
    network = factory(num_classes=classes)
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise InputError(f"model.name: {name!r} returned a {found}, not a torch.nn.Module")
    return network


FAMILIES: dict[str, Family] = {
    "frames": Family(
        owns=lambda name: name.startswith(FRAMES),
        names=list,
        make=_frames_make,
        pretrained=_frames_pretrained,
        preprocessing=_frames_preprocessing,
    ),
    "own": Family(
        owns=lambda name: ":" in name,
        names=list,
        make=_own_make,
        pretrained=_no_pretrained,
        preprocessing=lambda _name, _network: replace(IMAGENET, takes=None),
    ),
    "timm": Family(
        owns=lambda name: name.startswith("timm/"),
        names=_timm_names,
        make=_timm_make,
        pretrained=_timm_pretrained,
        preprocessing=_timm_preprocessing,
    ),
    "digits": Family(
        owns=lambda name: name == "digits_resnet",
        names=lambda: ["digits_resnet"],
        make=lambda _, classes: digits_resnet.DigitsResNet(classes),
        pretrained=_no_pretrained,
        preprocessing=lambda _name, _network: DIGITS,
    ),
    "video": Family(
        owns=lambda name: name in _video_names(),
        names=_video_names,
        make=_torchvision_make,
        pretrained=_torchvision_pretrained,
        preprocessing=_video_preprocessing,
    ),
    "cifar": Family(
        owns=lambda name: name.startswith("cifar_resnet"),
        names=lambda: list(_CIFAR),
        make=lambda name, classes: cifar_resnet.CifarResNet(_CIFAR[name], classes),
        pretrained=_no_pretrained,
        preprocessing=lambda _name, _network: CIFAR,
    ),
    "torchvision": Family(
        owns=lambda _: True,
        names=_torchvision_names,
        make=_torchvision_make,
        pretrained=_torchvision_pretrained,
        preprocessing=_torchvision_preprocessing,
    ),
}
"""In the order in which a name is tried."""
