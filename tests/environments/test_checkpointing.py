"""Activation checkpointing changes memory, and nothing else."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from nets import assert_same_gradients, gradients, loss_and_gradients, stages
from tiny import pictures
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils import checkpoint as checkpointing
from torch.utils.checkpoint import checkpoint
from torchvision.models import densenet121

from atcon import ConsistencyLoss, InputError, explain
from atcon.consistency import PRESETS

ROOT = Path(__file__).parents[2]
CHECKPOINT = partial(checkpoint, use_reentrant=False)


def pair():
    """A network in training mode, plain and checkpointed."""
    return stages().train(), stages(call=CHECKPOINT).train()


@pytest.mark.parametrize("preset", PRESETS)
def test_values_and_gradients_are_those_without_checkpoints(preset):
    plain, checkpointed = (loss_and_gradients(m, pictures(), preset=preset) for m in pair())
    assert torch.equal(plain[0], checkpointed[0])
    assert_same_gradients(checkpointed[1], plain[1], 1e-12)


def test_parts_are_computed_again_in_the_backward_pass():
    calls = []

    def counted(stage, x):
        stage_calls = lambda y: (calls.append(stage), stage(y))[1]  # noqa: E731  keeps the order
        return CHECKPOINT(stage_calls, x)

    loss = ConsistencyLoss(stages(call=counted).train())
    value = loss(pictures())
    first = len(calls)
    value.backward()
    assert len(calls) > first
    assert loss.details.activations == 3


def test_the_model_is_in_training_mode_again_after_the_backward_pass():
    model = pair()[1]
    model.stages[1].eval()
    before = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    ConsistencyLoss(model)(pictures()).backward()
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_checkpoints_inside_checkpoints():
    def nested(stage, x):
        return CHECKPOINT(lambda y: CHECKPOINT(stage[2:], CHECKPOINT(stage[:2], y)), x)

    plain = loss_and_gradients(stages().train(), pictures(), preset="paper")
    deep = loss_and_gradients(stages(call=nested).train(), pictures(), preset="paper")
    assert_same_gradients(deep[1], plain[1], 1e-12)


def test_a_batch_norm_apart_from_its_convolution():
    """The part begins between a convolution and the BatchNorm that it takes along."""

    def split(stage, x):
        return CHECKPOINT(stage[1:], stage[0](x))

    plain = loss_and_gradients(stages().train(), pictures())
    apart = loss_and_gradients(stages(call=split).train(), pictures())
    assert_same_gradients(apart[1], plain[1], 1e-12)


def test_a_target_layer_inside_a_part_that_is_then_overwritten():
    """The convolution that is explained ends in an in-place activation, inside the part."""
    options = {"layer": "stages.1.0", "preset": "reference"}
    plain, checkpointed = (loss_and_gradients(m, pictures(), **options) for m in pair())
    assert_same_gradients(checkpointed[1], plain[1], 1e-12)


def test_the_checkpoint_wrapper_of_pytorch_leaves_the_layer_names():
    plain, wrapped = stages().train(), stages().train()
    for index in range(3):
        wrapped.stages[index] = checkpoint_wrapper(wrapped.stages[index])
    loss = ConsistencyLoss(wrapped)
    loss(pictures()).backward()
    assert loss.layer_name == "stages.2"
    expected = loss_and_gradients(plain, pictures())[1]
    found = {
        name.replace("_checkpoint_wrapped_module.", ""): parameter.grad
        for name, parameter in wrapped.named_parameters()
        if parameter.grad is not None
    }
    assert_same_gradients(found, expected, 1e-12)


@pytest.mark.slow
def test_densenet_that_saves_memory():
    images = pictures(size=64)
    results = []
    for saves in (False, True):
        torch.manual_seed(0)
        model = densenet121(num_classes=4, memory_efficient=saves).double().train()
        results.append(loss_and_gradients(model, images))
    assert torch.equal(results[0][0], results[1][0])
    assert_same_gradients(results[1][1], results[0][1], 1e-10)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_are_refused():
    model = stages(call=partial(checkpoint, use_reentrant=True))
    with pytest.raises(InputError, match="use_reentrant=False"):
        explain(model, pictures(), layer="stages.2")


def test_pytorch_is_given_back_also_after_an_exception():
    before = checkpointing._checkpoint_hook, checkpointing.CheckpointFunction
    ConsistencyLoss(pair()[1])(pictures()).backward()
    with pytest.raises(InputError):
        explain(nn.Flatten(start_dim=0), pictures())
    assert (checkpointing._checkpoint_hook, checkpointing.CheckpointFunction) == before


def test_checkpoints_outside_a_traced_pass_are_pytorchs():
    found = []
    for model in pair():
        model.eval()(pictures()).sum().backward()
        found.append(gradients(model))
    assert_same_gradients(*found, 1e-12)


@pytest.mark.slow
def test_checkpoints_save_memory():
    """Four blocks of four layers: a third of the memory of keeping all sixteen."""

    def peak(kind):
        ended = subprocess.run(  # noqa: S603  ours
            [sys.executable, str(ROOT / "tests" / "support" / "peak_memory.py"), kind],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed leaves the process
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return int(ended.stdout)

    none, plain, checkpointed = (peak(kind) for kind in ("none", "plain", "checkpointed"))
    assert checkpointed - none < 0.45 * (plain - none)
