"""A network by name, with its weights loaded and a new head for the task."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from atcon.errors import InputError
from atcon.models.families import ONLINE, Family, Takes, family_of, resembles
from atcon.models.frames import FrameNetwork
from atcon.models.heads import find_head
from atcon.models.weights import fit_weights, read_weights


@dataclass(frozen=True)
class Network:
    """A classifier and what it expects of its input.

    Attributes:
        module: The network, on the CPU, in train mode.
        name: As given to `build`.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, divided by.
        input_size: Usual side of the square input, in pixels.
        head: Name of the module that makes the logits.
        takes: "images", "clips", or None where that is not known (a network of one's own).
    """

    module: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    head: str
    takes: Takes | None = None


def build(
    name: str,
    *,
    classes: int,
    weights: str | Path | None = None,
    seed: int = 0,
    new_head: bool = False,
) -> Network:
    """Build a classifier of `classes` classes.

    The head is loaded with the rest where its number of classes is `classes`; otherwise, or if
    `new_head` says so, it is new. The global random state is left alone.

    Args:
        name: `digits_resnet`, `cifar_resnet20` (32, 44, 56, 110), a classifier of images or clips
            of torchvision, `timm/NAME` (extra `timm`), `package.module:factory`, called with
            `num_classes=classes`, or any of these for images as `frames/NAME`: shown every frame
            of a clip, its features averaged.
        classes: Number of outputs.
        weights: None, "imagenet" or "kinetics400" (downloaded), or a safetensors or weights-only
            checkpoint file.
        seed: Of everything that is newly initialised.
        new_head: Leave the head of the weights out: its classes are others, though as many.

    Raises:
        InputError: The name, the file, or the fit of the two is wrong.
    """
    if classes < 1:
        raise InputError(f"a network needs at least one class, not {classes}")
    family = family_of(name)
    with _seeded(seed):
        module = family.make(name, classes)
    head = find_head(module, name, classes)
    if weights is not None:
        _load(module, family, name, weights, head=head, new_head=new_head)
    expected = family.preprocessing(name, module)
    return Network(
        module, name, expected.mean, expected.std, expected.input_size, head, expected.takes
    )


def _load(
    module: nn.Module,
    family: Family,
    name: str,
    weights: str | Path,
    *,
    head: str,
    new_head: bool,
) -> None:
    online = str(weights) in ONLINE
    path = Path(weights).expanduser()
    if isinstance(module, FrameNetwork):
        module, head = module.backbone, head.removeprefix("backbone.")
    fit_weights(
        module,
        family.pretrained(name, str(weights)) if online else read_weights(path),
        source=f"model.weights: {weights if online else path}, for {name}",
        head=head,
        new_head=new_head,
        resembles=lambda state: found if (found := resembles(state)) != name else None,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what the CPU draws inside, and give its generator back as it was.

    `torch.manual_seed` would also reseed every GPU, which networks built on the CPU never use.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
