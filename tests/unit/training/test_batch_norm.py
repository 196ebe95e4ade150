from contextlib import suppress

import pytest
import torch
from condition import assert_same, condition
from nets import stages
from tiny import pictures
from torch import nn

from atcon import ConsistencyLoss
from atcon.errors import InputError
from atcon.training import SupervisedLoss
from atcon.training.batch_norm import batch_norm_policy

STEPS = 20
POLICIES = ("frozen", "batch", "fixed")


def norms_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def values(model, kind):
    """Copy the buffers or the parameters of the BatchNorm layers, or the other parameters."""
    norms = norms_of(model)
    if kind == "buffers":
        return {n: b.clone() for n, b in model.named_buffers() if n.rpartition(".")[0] in norms}
    inside = kind == "affine"
    parameters = model.named_parameters()
    return {
        n: p.detach().clone() for n, p in parameters if (n.rpartition(".")[0] in norms) == inside
    }


def train(model, policy, stage):
    """Take twenty steps under a policy; give what was there before."""
    before = {kind: values(model, kind) for kind in ("buffers", "affine", "weights")}
    with batch_norm_policy(model, policy) as mode:
        if stage == "supervised":
            loss = SupervisedLoss(model, multi_label=True, batch_norm=mode)
        else:
            loss = ConsistencyLoss(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, 1e-3)
        for step in range(STEPS):
            batch = [pictures(4, size=8, seed=step), torch.eye(4).double()]
            optimizer.zero_grad()
            loss(*batch[: 2 if stage == "supervised" else 1]).backward()
            optimizer.step()
    return before


def changed(before, after):
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(
    ("policy", "stage"),
    [(policy, "supervised") for policy in POLICIES]
    + [(policy, "consistency") for policy in ("frozen", "fixed")],
)
def test_what_a_policy_leaves_alone_is_bitwise_the_same_after_20_steps(policy, stage):
    model = stages()
    before = train(model, policy, stage)
    moved = {kind: changed(before[kind], values(model, kind)) for kind in before}
    assert moved["buffers"] == (set(before["buffers"]) if policy == "batch" else set())
    assert moved["affine"] == (set() if policy == "fixed" else set(before["affine"]))
    assert moved["weights"] >= {name for name in before["weights"] if "head" not in name}


def test_statistics_of_the_batch_move_the_running_ones_as_torch_says():
    model = stages()
    norm, seen = model.stages[0][1], []
    mean = norm.running_mean.clone()
    norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    with batch_norm_policy(model, "batch") as mode:
        SupervisedLoss(model, multi_label=True, batch_norm=mode)(pictures(4), torch.eye(4).double())
    expected = 0.9 * mean + 0.1 * seen[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize("stage", ["supervised", "consistency"])
def test_fixing_changes_no_gradient_of_the_other_weights(stage):
    found = {}
    for policy in ("frozen", "fixed"):
        model, images = stages(), pictures(4)
        with batch_norm_policy(model, policy) as mode, torch.random.fork_rng():
            torch.manual_seed(0)
            if stage == "supervised":
                loss = SupervisedLoss(model, multi_label=True, batch_norm=mode)
                loss(images, torch.eye(4).double()).backward()
            else:
                ConsistencyLoss(model)(images).backward()
        found[policy] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    affine = set(values(stages(), "affine"))
    assert affine <= set(found["frozen"])
    assert not affine & set(found["fixed"])
    for name, gradient in found["fixed"].items():
        torch.testing.assert_close(gradient, found["frozen"][name])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_mode_inside_is_that_of_the_policy(policy):
    model = stages().train()
    with batch_norm_policy(model, policy) as mode:
        assert mode == ("batch" if policy == "batch" else "frozen")
        assert {norm.training for norm in norms_of(model).values()} == {policy == "batch"}
        affine = [p for norm in norms_of(model).values() for p in norm.parameters()]
        assert {parameter.requires_grad for parameter in affine} == {policy != "fixed"}
        assert model.head.fc.weight.requires_grad


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_model_is_given_back(policy, fails):
    model = stages()
    model.stages[1].train()
    model.stages[0][1].bias.requires_grad_(requires_grad=False)
    before = condition(model)
    with suppress(ZeroDivisionError), batch_norm_policy(model, policy):
        model.train()
        assert 1 / (not fails)
    assert_same(before, condition(model))


def test_layers_without_scales_and_shifts_are_no_obstacle():
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, affine=False))
    with batch_norm_policy(model, "fixed"):
        assert [parameter.requires_grad for parameter in model.parameters()] == [True, True]
        assert not model[1].training


def test_an_unknown_policy_names_the_nearest():
    with (
        pytest.raises(InputError, match="no BatchNorm policy 'freeze': did you mean 'frozen'"),
        batch_norm_policy(stages(), "freeze"),
    ):
        raise AssertionError
