"""Which module of a classifier makes its logits."""

from torch import nn

from atcon.errors import InputError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_head(module: nn.Module, name: str, classes: int) -> str:
    """Name the last linear layer with `classes` outputs, else the last such convolution.

    Raises:
        InputError: There is neither.
    """
    modules: list[tuple[str, nn.Module]] = list(module.named_modules())
    linear = [k for k, m in modules if isinstance(m, nn.Linear) and m.out_features == classes]
    convolutions = [
        k for k, m in modules if isinstance(m, _CONVOLUTIONS) and m.out_channels == classes
    ]
    if not linear and not convolutions:
        raise InputError(
            f"model.name: {name} has no linear layer or convolution with {classes} outputs; "
            "does its factory use num_classes?"
        )
    return (linear or convolutions)[-1]
