"""Tiny networks, one for every way that real ones call their activations and convolutions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 4


class Head(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(2).mean(dim=2))


class Residual(nn.Module):
    """A block whose shortcut and branch meet before a shared activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = Head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        return self.head(self.relu(self.conv(x) + x))


class Functional(nn.Module):
    """Functional and method ReLUs; the last overwrites the output of the layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.last = nn.Conv2d(4, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).relu()
        return self.head(functional.relu(self.norm(self.last(x)), inplace=True))


class PreActivation(nn.Module):
    """An in-place ReLU that changes the skip path too, as the network was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = Head(4)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stem(x)
        branch = self.conv(functional.relu_(skip))
        return self.head(functional.relu(branch + skip))


class Edits(nn.Module):
    """Normalises its input in place and keeps statistics of what it saw in its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))
        self.net = _plain()

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.1)
        self.seen.add_(1)
        self.last = x.detach().mean().reshape(1)
        return self.net(x)


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        Head(5),
    )


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.ReLU(),
        Head(4),
    )


def _relu6() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU6(), nn.Conv2d(4, 5, 3), nn.Hardtanh(0.0, 0.7), Head(5)
    )


def _inplace() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU6(inplace=True),
        Head(5),
    )


class Smooth(nn.Module):
    """Activations that are no ReLU, as modules, functions and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4))
        self.silu = nn.SiLU(inplace=True)
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 1), nn.PReLU(4))
        self.third = nn.Conv2d(4, 5, 3)
        self.last = nn.Sequential(nn.Hardswish(inplace=True), nn.Conv2d(5, 5, 1), nn.ELU())
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.silu(self.stem(x)))
        x = functional.leaky_relu_(self.third(x), 0.2)
        return self.head(self.last(x + 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": _plain,
    "grouped": _grouped,
    "relu6": _relu6,
    "inplace": _inplace,
    "residual": Residual,
    "functional": Functional,
    "preactivation": PreActivation,
    "edits": Edits,
    "smooth": Smooth,
}


def network(name: str, seed: int = 3, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a network of the table with seeded weights and running statistics of a real one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = settled(NETWORKS[name]().eval())
    return model.to(dtype)


def settled(model: nn.Module) -> nn.Module:
    """Draw the running statistics, scales and shifts that training would have left."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return model


def pictures(
    count: int = 2, size: int = 12, seed: int = 1, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw a batch of smooth random images, `[count, 3, size, size]`."""
    noise = torch.randn(
        count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return (noise + 2 * functional.avg_pool2d(noise, 3, 1, 1)).to(dtype)
