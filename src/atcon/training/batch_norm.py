"""What BatchNorm does in a stage of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from atcon.errors import no_such
from atcon.training.steps import BatchNormPolicy

StageBatchNorm = Literal["frozen", "batch", "fixed"]
"""frozen: the running statistics are used and stay bitwise; scales and shifts train. batch: each
batch's statistics are used and move the running ones. fixed: as frozen, and scales and shifts stay
too."""


def step_policy(policy: StageBatchNorm) -> BatchNormPolicy:
    """Give what the losses of a stage have to be told, which set the mode anew in every step."""
    return "batch" if policy == "batch" else "frozen"


@contextmanager
def batch_norm_policy(model: nn.Module, policy: StageBatchNorm) -> Iterator[BatchNormPolicy]:
    """Borrow a model for a stage: put its BatchNorm layers in order, give them back as they were.

    The optimiser is built inside the block, so that it sees which weights get a gradient. A
    `ConsistencyLoss` uses running statistics and moves none by itself, whatever the policy; what
    it needs of this block is that of "fixed"::

        with batch_norm_policy(model, "fixed") as mode:
            loss = SupervisedLoss(model, multi_label=True, batch_norm=mode)
            optimizer = Adam(parameter_groups(model, lr=1e-4))
            ...

    Args:
        model: Any module; training flags of all of it and `requires_grad` of the scales and shifts
            are restored at the end, also after an error.
        policy: A name of `StageBatchNorm`.

    Yields:
        What `SupervisedLoss` has to be told, which sets the mode anew in every step.

    Raises:
        InputError: No such policy.
    """
    if policy not in get_args(StageBatchNorm):
        raise no_such("BatchNorm policy", policy, get_args(StageBatchNorm))
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [(module, module.training) for module in model.modules()]
    affine = [p for norm in norms for p in norm.parameters(recurse=False)]
    trains = [(parameter, parameter.requires_grad) for parameter in affine]
    try:
        for norm in norms:
            norm.train(policy == "batch")
        if policy == "fixed":
            for parameter in affine:
                parameter.requires_grad = False
        yield step_policy(policy)
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in trains:
            parameter.requires_grad = requires_grad
