"""A network of images as a network of clips: its features of every frame, averaged over time."""

from typing import Any

from torch import Tensor, nn

from atcon.types import Images, Logits


class FrameNetwork(nn.Module):
    """Shows a network of images every frame of a clip, and its head the mean over the frames.

    A linear head gives the mean of the frames' logits. Grad-CAM at a layer of `backbone` has the
    frames as its first axis.

    Args:
        backbone: Maps `[batch, 3, height, width]` to logits.
        head: Name of the module of `backbone` that makes them.
    """

    def __init__(self, backbone: nn.Module, head: str) -> None:
        super().__init__()
        self.backbone = backbone
        self._frames = 1
        backbone.get_submodule(head).register_forward_pre_hook(self._average)

    def forward(self, x: Images) -> Logits:
        """Logits of normalised clips `[batch, 3, frame, height, width]`."""
        self._frames = x.shape[2]
        return self.backbone(x.transpose(1, 2).flatten(0, 1))  # type: ignore[no-any-return]

    def _average(self, _head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        features: Tensor = inputs[0]
        of_frames = features.reshape(-1, self._frames, *features.shape[1:])
        return (of_frames.mean(dim=1), *inputs[1:])
