"""What a model is like, to hold that it is given back as it was."""

import torch
from tiny import network
from torch import nn


def condition(model):
    """Everything that borrowing could leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [module.training for module in model.modules()],
        "modules": [id(module) for module in model.modules()],
        "hooks": [len(getattr(module, kind)) for module in model.modules() for kind in hooks],
        "storage": [id(t) for t in (*model.parameters(), *model.buffers())],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for key in ("state", "grad", "random"):
        torch.testing.assert_close(after.pop(key), before.pop(key), rtol=0, atol=0, equal_nan=True)
    assert after == before


def prepared(built, dtype=torch.float64):
    """A model in a mixed mode, with gradients on some of its parameters."""
    model = network(built, dtype=dtype).train()
    list(model.modules())[2].eval()
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[-1].requires_grad_(requires_grad=False)
    return model


class Breaks(nn.Module):
    """Fails after it has used random numbers and written to its buffers."""

    def __init__(self):
        super().__init__()
        self.net = network("edits")

    def forward(self, x):
        self.net(x)
        torch.rand(3)
        raise RuntimeError("out of paper")
