"""Tiny transformers, one for every way that real ones hold tokens and call attention."""

from collections.abc import Callable

import torch
import torchvision
from tiny import CLASSES
from torch import Tensor, nn


class Encoder(nn.Module):
    """PyTorch's own encoder layers, whose fast path fuses all of them; every token is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(dim=1))


class Attention(nn.Module):
    """One head, its softmax written out, and no dimension for heads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(6), nn.Linear(6, 18)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return x + (q @ k.transpose(1, 2) / 6**0.5).softmax(dim=-1) @ v


class Registers(nn.Module):
    """A class token and two registers before the cells; blocks that are plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.extra = nn.Parameter(torch.randn(1, 3, 6))
        self.position = nn.Parameter(torch.randn(1, 19, 6))
        self.first, self.second = Attention(), Attention()
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        cells = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.extra.expand(len(x), -1, -1), cells], dim=1) + self.position
        return {"logits": self.fc(self.second(self.first(x))[:, 0])}


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=CLASSES)


def _swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        [4, 4], 8, [1, 2], [1, 2], [2, 2], num_classes=CLASSES, stochastic_depth_prob=0
    )


GLOBAL: dict[str, Callable[[], nn.Module]] = {
    "vit": _vit,
    "encoder": Encoder,
    "registers": Registers,
}
"""Transformers in which every token attends to all."""

TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {**GLOBAL, "swin": _swin}


def transformer(name: str, seed: int = 3, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a network of the table with seeded weights large enough to attend unevenly."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return shaken(TRANSFORMERS[name]()).to(dtype)


def shaken(model: nn.Module) -> nn.Module:
    """Draw every matrix anew, so that no head is zero and no attention is flat."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()
