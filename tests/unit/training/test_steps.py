import subprocess
import sys

import pytest
import torch
from tiny import network, pictures
from torch import nn
from torch.nn import functional

from atcon.training import (
    Batch,
    SupervisedLoss,
    freeze_batch_norm,
    generator_of,
    seed_of,
    supervised_step,
)

GOLDEN = 8651258131732896453


def without_dropout():
    model = network("plain")
    model[3].p = 0.0
    return model


def test_frozen_normalisation_neither_uses_nor_changes_the_batch():
    model, images = without_dropout(), pictures(4)
    expected = model(images)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss = SupervisedLoss(model, multi_label=True, batch_norm="frozen")
    found = loss(images, torch.eye(4).double())
    torch.testing.assert_close(
        found, functional.binary_cross_entropy_with_logits(expected, torch.eye(4).double())
    )
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


def test_batch_normalisation_uses_and_updates_the_batch():
    model, images = without_dropout(), pictures(4)
    frozen = SupervisedLoss(model, multi_label=True, batch_norm="frozen")
    loss = SupervisedLoss(model, multi_label=True, batch_norm="batch")
    mean = model[1].running_mean.clone()
    labels = torch.eye(4).double()
    assert loss(images, labels) != frozen(images, labels)
    assert not torch.equal(model[1].running_mean, mean)


def test_single_labels_are_trained_with_the_categorical_loss():
    model, images = without_dropout(), pictures(4)
    labels = torch.eye(4).double()[[2, 0, 1, 3]]
    expected = -model(images).log_softmax(dim=1)[range(4), [2, 0, 1, 3]].mean()
    loss = SupervisedLoss(model, multi_label=False, batch_norm="frozen")
    torch.testing.assert_close(loss(images, labels), expected)


def test_dropout_stays_on_while_normalisation_is_frozen():
    model = network("plain").train()
    freeze_batch_norm(model)
    assert [type(m) for m in model.modules() if not m.training] == [nn.BatchNorm2d] * 2
    assert model[3].training


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_kind_of_batch_normalisation_is_frozen(kind):
    model = nn.Sequential(nn.Dropout(), kind(3)).train()
    freeze_batch_norm(model)
    assert [module.training for module in model] == [True, False]


def test_a_supervised_step_is_the_loss_of_its_batch():
    model, labels = without_dropout(), torch.eye(4).double()
    loss = SupervisedLoss(model, multi_label=True, batch_norm="frozen")
    outcome = supervised_step(loss)(Batch(pictures(4), labels, ("a", "b", "c", "d")))
    torch.testing.assert_close(outcome.loss, loss(pictures(4), labels))
    assert outcome.loss.requires_grad
    assert outcome.logged == {}


def test_a_seed_is_the_same_in_every_process():
    command = "from atcon.training import seed_of; print(seed_of(0, 'epoch', 3))"
    seen = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert int(seen.stdout) == seed_of(0, "epoch", 3) == GOLDEN


def test_seeds_differ_by_run_purpose_and_epoch():
    seeds = {seed_of(s, p, e) for s in range(5) for p in ("epoch", "order") for e in range(20)}
    assert len(seeds) == 200
    assert seed_of(1, 11) != seed_of(11, 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_repeats_itself():
    draws = [torch.rand(3, generator=generator_of(0, "order", 1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], torch.rand(3, generator=generator_of(0, "order", 2)))
