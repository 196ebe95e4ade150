"""What every command that computes needs: the device, the input size, a stage's network."""

from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import nn

from atcon.data import ImageSet
from atcon.errors import InputError
from atcon.experiments.dividing import on_gpu
from atcon.experiments.folder import RunFolder
from atcon.experiments.sections import RunConfig
from atcon.models import Network, build, load_weights
from atcon.training import ALONE, Processes, set_padding


def fabric_of(config: RunConfig, processes: Processes = ALONE) -> Fabric:
    """Set up the device and the precision; of several processes each has a GPU of its own.

    Raises:
        InputError: There is no such device here.
    """
    kind, _, index = config.device.partition(":")
    try:
        devices: list[int] | int = [int(index)] if index else 1
        if processes.count > 1 and on_gpu(config):
            devices = [processes.rank % torch.cuda.device_count()]
        return Fabric(accelerator=kind, devices=devices, precision=config.precision)
    except Exception as error:  # Fabric's own exceptions share no public base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"device = {config.device!r} with precision = {config.precision!r} cannot be used here "
            f"({reason}); try --device auto"
        ) from error


def size_of(config: RunConfig, network: Network) -> int:
    """Side of the square input."""
    return config.data.image_size or network.input_size


def metric_of(config: RunConfig, image_set: ImageSet) -> str:
    """Name the validation metric that chooses epochs: mAP, and for clips F1, as in the paper."""
    if config.selection != "auto":
        return config.selection
    return "map" if image_set.frames is None else "f1"


def placed(config: RunConfig, module: nn.Module, fabric: Fabric) -> nn.Module:
    """Put a network on the device as a run uses it: its padding, and the channels last.

    Convolutions of images are faster in that layout.
    """
    if config.model.padding is not None:
        set_padding(module, config.model.padding)
    return fabric.to_device(module).to(memory_format=_layout(module))


def _layout(module: nn.Module) -> torch.memory_format:
    """Give the layout of a network's weights: three-dimensional convolutions have one axis more."""
    clips = any(isinstance(part, nn.Conv3d) for part in module.modules())
    return torch.channels_last_3d if clips else torch.channels_last


def stage_network(
    config: RunConfig, folder: RunFolder, classes: int, stage: str, fabric: Fabric
) -> Network:
    """Build the network with the weights that a stage selected, on the device."""
    network = build(config.model.name, classes=classes)
    load_weights(network.module, folder.weights(stage))  # of as many classes: no head is drawn
    module = placed(config, network.module, fabric)
    return replace(network, module=module.double() if config.precision == "64-true" else module)
