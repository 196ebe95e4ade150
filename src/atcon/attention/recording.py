"""One plain forward pass that shows which modules run, in what order, and what they give."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import BaseTorchFunctionMode

from atcon.attention.borrow import borrowed
from atcon.attention.target import logits_of
from atcon.attention.tokens import is_of_frames, unpacked
from atcon.attention.wrapped import named_layers
from atcon.types import Images


@dataclass(frozen=True)
class Recording:
    """What a forward pass showed.

    Attributes:
        model: What ran.
        image: What it ran on: one image.
        modules: By name, without the names of wrappers.
        order: The modules that gave a tensor, in the order they ended.
        shapes: Of what they gave at last.
        classes: How many the logits have.
    """

    model: nn.Module
    image: Images
    modules: dict[str, nn.Module]
    order: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    classes: int

    @property
    def classifier(self) -> str | None:
        """Name the last module with weights of its own, and no such module inside."""
        weighted = [n for n in self.order if list(self.modules[n].parameters(recurse=False))]
        inner = [n for n in weighted if not any(other.startswith(f"{n}.") for other in weighted)]
        return inner[-1] if inner else None

    def is_map(self, name: str) -> bool:
        """Whether a module gives channels of a grid, of the image or of each frame of a clip."""
        shape = self.shapes[name]
        return len(shape) == self.image.ndim or is_of_frames(shape, self.image)

    def after(self, name: str) -> tuple[str, ...]:
        """Name what ended after the last run of a module."""
        return self.order[len(self.order) - self.order[::-1].index(name) :]


@contextmanager
def watched(model: nn.Module, note: Callable[[str, Any], None]) -> Iterator[None]:
    """Call `note(name, output)` whenever a part of the model has run."""
    with ExitStack() as stack:
        for name, module in named_layers(model).items():
            if name and not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                hook = module.register_forward_hook(
                    lambda _module, _inputs, output, name=name: note(name, output)
                )
                stack.callback(hook.remove)
        yield


def record(model: nn.Module, image: Images) -> Recording:
    """Run the model once, as it is, on one image."""
    modules = named_layers(model)
    order: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: Any) -> None:
        tensor, _ = unpacked(output)
        if tensor is not None:
            order.append(name)
            shapes[name] = tuple(tensor.shape)

    fully = BaseTorchFunctionMode()  # while a mode is entered no fused block hides its parts
    with borrowed(model, image.device), torch.no_grad(), fully, watched(model, note):
        logits = logits_of(model(image.clone()))
    return Recording(model, image, modules, tuple(order), shapes, logits.shape[1])
