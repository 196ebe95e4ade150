"""Small networks for the places where real ones are trained: BatchNorm, dropout, several stages."""

from collections.abc import Callable, Sequence

import torch
from tiny import Head, settled
from torch import Tensor, nn

from atcon import ConsistencyLoss


def block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, in-place ReLU and dropout."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    )


class Stages(nn.Module):
    """Three stages and a head; `call` runs a stage, so that it can be checkpointed."""

    def __init__(self, channels: int = 3, call: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList([block(channels, 4, 2), block(4, 6), block(6, 6)])
        self.head = Head(6)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = self.call(stage, x) if self.call else stage(x)
        return self.head(x)


def stages(dtype: torch.dtype = torch.float64, seed: int = 5, **options: object) -> Stages:
    """Build the network with seeded weights and the running statistics of a trained one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = settled(Stages(**options))
    return model.to(dtype).eval()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copy the gradients that there are, by the name of their parameter."""
    return {
        name: parameter.grad.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def loss_and_gradients(
    model: nn.Module, images: Tensor, **options: object
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take one step's loss and gradients of a model that has none yet."""
    model.zero_grad()
    loss = ConsistencyLoss(model, **options)(images)
    loss.backward()
    return loss.detach(), gradients(model)


def assert_same_gradients(
    actual: dict[str, Tensor], expected: dict[str, Tensor], relative: float
) -> None:
    """Compare two sets of gradients, each with the size of its own expected gradient."""
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        size = float(gradient.abs().max())
        error = float((actual[name].to(gradient.dtype) - gradient).abs().max())
        assert error <= relative * size, f"{name}: {error} of {size}"


def sgd(parameters: Sequence[nn.Parameter], rate: float = 0.05) -> torch.optim.Optimizer:
    """Momentum, so that a gradient of step 1 still shows in step 10."""
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)
