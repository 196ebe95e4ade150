"""Promise 6: BatchNorm's running statistics are bitwise those of the start after 100 steps.

What a policy does to scales, shifts and weights is in tests/unit/training/test_batch_norm.py.
"""

import pytest
import torch
from pipeline import tiny
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm
from training import Stage, furthest

from atcon.experiments.arms import BASELINES
from atcon.experiments.run import run
from atcon.experiments.sources import network_of
from atcon.training import batch_norm_policy

STEPS = 100


def buffers_of(model):
    return {
        f"{name}.{kind}": value.clone()
        for name, norm in model.named_modules()
        if isinstance(norm, _BatchNorm)
        for kind, value in norm.named_buffers()
    }


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("fine_tuning", "frozen"),
        *(
            pytest.param(kind, policy, marks=pytest.mark.slow)
            for kind in ("supervised", "fine_tuning", "combined", "alternated")
            for policy in ("frozen", "fixed")
            if (kind, policy) != ("fine_tuning", "frozen")
        ),
    ],
)
def test_buffers_are_bitwise_the_same_after_100_steps(kind, policy):
    stage = Stage(kind, rate=1e-3)
    before, weights = buffers_of(stage.model), stage.weights()
    with batch_norm_policy(stage.model, policy):
        epochs = STEPS // (4 if kind == "alternated" else 2)
        stage.train(epochs)
    after = buffers_of(stage.model)
    assert len(stage.notes.steps) == STEPS
    assert furthest(stage.weights(), weights) > 1e-2
    assert set(before) == {
        f"stages.{stage}.1.{name}"
        for stage in range(3)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
def test_no_arm_of_a_run_moves_them(tmp_path):
    """One epoch each: 100 steps of every arm are minutes."""
    arms = [name for name in BASELINES if name != "laso"]  # it is for sets of labels
    config = tiny(
        "supervised.epochs=1",
        "consistency.epochs=1",
        "fixmatch.epochs=1",
        "simclr.epochs=1",
        "evaluation.gallery=0",
        f"baselines=[{', '.join(arms)}]",
        "consistency.stopping=last",
    )
    record = run(config, tmp_path / "run")
    start = buffers_of(network_of(config, len(record["classes"])).module)
    kept = {
        path.stem: load_file(path)
        for path in (tmp_path / "run" / "checkpoints").glob("*.safetensors")
    }
    assert set(kept) >= {"supervised", "consistency", "uniform", "simclr_pretraining", *arms}
    for stage, weights in kept.items():
        for name, value in start.items():
            assert torch.equal(weights[name], value), f"{stage}, {name}"
