"""The small residual network of the `digits` data: fast on a CPU, large enough to learn them."""

from collections import OrderedDict

from torch import Tensor, nn

from atcon.types import Images, Logits

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
INPUT_SIZE = 64
WIDTHS = (16, 32, 64)
BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016), the shortcut 1x1 where shapes differ.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Features of `outputs` channels, the grid divided by the stride."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(residual + self.shortcut(x))  # type: ignore[no-any-return]


class DigitsResNet(nn.Module):
    """A stem of stride 2, three stages of two blocks, global average pooling, a linear head.

    An image of 64x64 gives last maps of 64 channels on a grid of 8x8.

    Args:
        num_classes: Outputs of the head.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, WIDTHS[0], 3, 2, padding=1, bias=False),
                bn=nn.BatchNorm2d(WIDTHS[0]),
                relu=nn.ReLU(),
            )
        )
        self.stages = nn.Sequential(
            *(_stage(WIDTHS[max(i - 1, 0)], width, 2 if i else 1) for i, width in enumerate(WIDTHS))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Images) -> Logits:
        """Logits of normalised RGB images."""
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(outputs, outputs, 1) for _ in range(BLOCKS - 1))
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)
