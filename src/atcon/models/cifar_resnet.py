"""The residual networks for images of 32 x 32 (He et al., 2016, section 4.2), by their depth."""

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from atcon.types import Images, Logits

BLOCKS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}
"""Blocks of a stage by the number of layers: two in each block, the first one and the head."""
WIDTHS = (16, 32, 64)
INPUT_SIZE = 32


class PaddedShortcut(nn.Module):
    """A shortcut without weights ("option A"): every second pixel, new channels of zeros around.

    Args:
        added: Channels of zeros on either side of those that come in.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """Halve the grid and widen to `channels + 2 * added`."""
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out; where they are more, the grid is halved.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        wider = outputs > inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if wider else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = PaddedShortcut((outputs - inputs) // 2) if wider else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Features of `outputs` channels."""
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(residual + self.shortcut(x))


class CifarResNet(nn.Module):
    """One convolution, three stages of equally many blocks, global average pooling, a linear head.

    The names of the weights are those of github.com/akamaster/pytorch_resnet_cifar10. An image of
    32x32 gives last maps of 64 channels on a grid of 8x8.

    Args:
        blocks: Of each stage; see `BLOCKS`.
        num_classes: Outputs of the head.
    """

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks)
        self.linear = nn.Linear(WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Images) -> Logits:
        """Logits of normalised RGB images."""
        features = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(features.mean((2, 3)))  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    rest = (BasicBlock(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(inputs, outputs), *rest)
