"""The networks of LaSO: set operations on features, and the classifier that judges them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atcon.attention.noise import source_of, uniform
from atcon.baselines.features import Features
from atcon.types import Logits


class SetOperation(nn.Module):
    """Two features in, the feature of an image with the combined label set out.

    Linear(2d, h), then twice BatchNorm-LeakyReLU(0.2)-Dropout-Linear, the last to d (Alfassy et
    al., CVPR 2019). The authors' code has a Tanh at the end, which features of a ReLU network do
    not fit; it is left out.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        """Choose d, h and the dropout; the weights are drawn from the generator, or a fixed one."""
        super().__init__()
        source = source_of(generator)
        self.layers = nn.Sequential(
            fresh_linear(2 * features, hidden, source),
            *_normalised(hidden, dropout),
            fresh_linear(hidden, hidden, source),
            *_normalised(hidden, dropout),
            fresh_linear(hidden, features, source),
        )

    def forward(self, a: Features, b: Features) -> Features:
        """Operate on a pair of features, `[batch, d]` each."""
        result: Tensor = self.layers(torch.cat([a, b], dim=1))
        return result


class LaSO(nn.Module):
    """The three set-operation networks and the multi-label classifier that they share.

    In training mode BatchNorm uses the statistics of each batch, so a batch has two pairs or more.

    Attributes:
        features: d.
        classes: How many.
        subtract: The labels of a without those of b.
        intersect: The labels of both.
        union: The labels of either.
        classifier: From a feature, real or made, to one logit per class.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 2048,
        hidden_subtraction: int = 8192,
        *,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        """Choose the sizes; the weights are drawn from the generator, or from a fixed one."""
        super().__init__()
        source = source_of(generator)
        self.features, self.classes = features, classes
        self.subtract = SetOperation(
            features, hidden_subtraction, dropout=dropout, generator=source
        )
        self.intersect = SetOperation(features, hidden, dropout=dropout, generator=source)
        self.union = SetOperation(features, hidden, dropout=dropout, generator=source)
        self.classifier = fresh_linear(features, classes, source)

    @property
    def operations(self) -> dict[str, Callable[[Features, Features], Features]]:
        """The networks under the names of `OPERATIONS`."""
        return {
            "union": self.union,
            "intersection": self.intersect,
            "subtraction": self.subtract,
        }

    def forward(self, features: Features) -> Logits:
        """Classify features, real or made."""
        logits: Tensor = self.classifier(features)
        return logits


def fresh_linear(inputs: int, outputs: int, source: torch.Generator) -> nn.Linear:
    """Make a linear layer with PyTorch's default weights, drawn from `source` alone."""
    layer = nn.Linear(inputs, outputs, device="meta")  # draws nothing from the global generator
    layer = layer.to_empty(device=torch.get_default_device())
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(uniform(parameter.shape, source, parameter) * 2 * bound - bound)
    return layer


def _normalised(hidden: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Dropout(dropout)
