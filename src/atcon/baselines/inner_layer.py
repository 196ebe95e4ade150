"""Find the two layers of layer attention: the last convolutions of the last two stages."""

import math

from torch import nn

from atcon.attention import find_layer
from atcon.attention.recording import Recording, record
from atcon.errors import InputError
from atcon.types import Images

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def inner_and_last(model: nn.Module, images: Images) -> tuple[str, str]:
    """Name the last convolutions of the last two stages.

    A stage is what has one resolution. The last layer is `find_layer`'s; the inner one is the last
    convolution before it with a larger map, in a block that keeps that map: in the block that
    shrinks it the first convolutions still see the larger one, but belong to the next stage
    (`layer4.0.conv1` of a ResNet-50). Where no map is larger the stages share a resolution, and the
    inner layer is the last convolution before the block of the last one. A network whose last
    stages are dilated, so that only earlier ones have larger maps, should have its layers named.

    Args:
        model: Any convolutional network; left as it was.
        images: A batch of the usual size; only the first image is used.

    Raises:
        InputError: There are no two such convolutions.
    """
    last = find_layer(model, images, "convolution")
    seen = record(model, images[:1])
    until = len(seen.order) - 1 - seen.order[::-1].index(last)
    earlier = [
        name
        for name in seen.order[:until]
        if isinstance(seen.modules[name], _CONVOLUTIONS) and name != last
    ]
    earlier = [name for name in earlier if _cells(name, seen) > 1]
    if not isinstance(seen.modules[last], _CONVOLUTIONS) or not earlier:
        raise _no_pair(model)
    larger = [name for name in earlier if _cells(name, seen) > _cells(last, seen)]
    body = earlier[0]
    if larger:
        whole = [name for name in larger if not _in_the_next_stage(name, seen, body)]
        return (whole or larger)[-1], last
    around = _blocks_around(last, seen, body) or [
        name for name in reversed(_enclosing(last)) if not _holds(name, body)
    ]
    block = around[0] if around else last
    return [name for name in earlier if not _holds(block, name)][-1], last


def _cells(name: str, seen: Recording) -> int:
    """Count the positions of a layer's output, 1 if it is no map."""
    return math.prod(seen.shapes[name][2:]) if seen.is_map(name) else 1


def _in_the_next_stage(convolution: str, seen: Recording, body: str) -> bool:
    """Whether a block around it ends with a smaller map."""
    return any(
        _cells(name, seen) < _cells(convolution, seen)
        for name in _blocks_around(convolution, seen, body)
    )


def _blocks_around(name: str, seen: Recording, body: str) -> list[str]:
    """List the modules around one that are no mere chains, outermost first.

    What also holds the first convolution, `body`, is the network's body, not a block.
    """
    return [
        outer
        for outer in _enclosing(name)
        if outer in seen.shapes
        and not isinstance(seen.modules[outer], nn.Sequential)
        and not _holds(outer, body)
    ]


def _enclosing(name: str) -> list[str]:
    """List the modules around one, outermost first, without the model itself."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _holds(outer: str, name: str) -> bool:
    return name == outer or name.startswith(f"{outer}.")


def _no_pair(model: nn.Module) -> InputError:
    convolutions = [
        name for name, module in model.named_modules() if isinstance(module, _CONVOLUTIONS)
    ]
    return InputError(
        f"{type(model).__name__} has no two stages that end with a convolution (it has "
        f"{len(convolutions)} convolutions): name two layers whose outputs are maps, the inner one "
        "first, LayerAttentionLoss(model, layers=('layer3.1.conv2', 'layer4.1.conv2'))"
    )
