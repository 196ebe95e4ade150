"""What a model is like, to hold that it is given back as it was."""

import torch


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
