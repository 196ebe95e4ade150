import math

import pytest
import torch
from finite_differences import slopes
from nets import stages
from tiny import network, pictures
from torch import nn

from atcon.baselines.fixmatch import FixMatchLoss, fixmatch_loss, fixmatch_step, pseudo_labels
from atcon.baselines.two_views import ViewBatch
from atcon.errors import InputError
from atcon.training import Batch

each = pytest.mark.parametrize("multi_label", [False, True])


def logits(count: int, seed: int, scale: float = 4.0) -> torch.Tensor:
    make = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, 3, generator=make, dtype=torch.float64)


def by_loop(weak, strong, *, multi_label, threshold):
    """Equation 4, one sample, and for multi-label data one class, at a time."""
    total, used = 0.0, 0
    for w, s in zip(weak, strong, strict=True):
        if multi_label:
            for p, q in zip((1 / (1 + (-w).exp())).tolist(), 1 / (1 + (-s).exp()), strict=True):
                if p >= threshold:
                    total, used = total - q.log(), used + 1
                elif 1 - p >= threshold:
                    total, used = total - (1 - q).log(), used + 1
        else:
            p = (w.exp() / w.exp().sum()).tolist()
            if max(p) >= threshold:
                q = s.exp() / s.exp().sum()
                total, used = total - q[p.index(max(p))].log(), used + 1
    count = weak.numel() if multi_label else len(weak)
    return total / count, used / count


@each
@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95, 0.99])
def test_value_and_gradient_are_those_of_the_formula(multi_label, threshold):
    weak, strong = logits(30, 1), logits(30, 2).requires_grad_()
    expected, share = by_loop(weak, strong, multi_label=multi_label, threshold=threshold)
    assert 0 < share < 1
    found = fixmatch_loss(weak, strong, multi_label=multi_label, threshold=threshold)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        *[torch.autograd.grad(value, strong) for value in (found, expected)], rtol=1e-8, atol=1e-12
    )
    labels = pseudo_labels(weak, multi_label=multi_label, threshold=threshold)
    assert math.isclose(labels.share, share)


@each
def test_gradients_match_finite_differences(multi_label):
    weak, strong = logits(8, 1), logits(8, 2).requires_grad_()

    def value():
        return fixmatch_loss(weak, strong, multi_label=multi_label, threshold=0.8)

    gradients = torch.autograd.grad(value(), [strong])
    for found, expected in slopes([strong], gradients, lambda: value().detach()):
        assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)


@each
def test_no_gradient_flows_into_the_weak_view(multi_label):
    weak, strong = logits(8, 1).requires_grad_(), logits(8, 2)
    assert not fixmatch_loss(weak, strong, multi_label=multi_label).requires_grad


@each
def test_the_order_of_the_batch_does_not_matter(multi_label):
    weak, strong, order = logits(6, 1), logits(6, 2), [4, 2, 0, 5, 1, 3]
    torch.testing.assert_close(
        fixmatch_loss(weak[order], strong[order], multi_label=multi_label, threshold=0.7),
        fixmatch_loss(weak, strong, multi_label=multi_label, threshold=0.7),
    )


@each
def test_with_every_label_sure_it_is_the_cross_entropy_of_the_labels(multi_label):
    truth = torch.tensor([0, 2, 1, 1])
    weak = 100 * torch.eye(3)[truth].double() - 50
    strong, labels = logits(4, 2), torch.eye(3)[truth].double()
    expected = (
        nn.functional.binary_cross_entropy_with_logits(strong, labels)
        if multi_label
        else nn.functional.cross_entropy(strong, truth)
    )
    torch.testing.assert_close(fixmatch_loss(weak, strong, multi_label=multi_label), expected)


@each
def test_without_a_sure_label_loss_and_gradient_are_zero(multi_label):
    strong = logits(4, 2).requires_grad_()
    loss = fixmatch_loss(torch.zeros(4, 3), strong, multi_label=multi_label)
    loss.backward()
    assert loss == 0
    assert not strong.grad.any()


def test_single_labels_are_used_from_the_threshold_on():
    p = torch.tensor([[0.96, 0.02, 0.02], [0.94, 0.03, 0.03], [0.01, 0.01, 0.98]])
    found = pseudo_labels(p.log(), multi_label=False)
    assert found.labels.argmax(dim=1).tolist() == [0, 0, 2]
    assert found.used.tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert math.isclose(found.share, 2 / 3)
    assert math.isclose(found.positives, 2 / 3)


def test_each_class_of_multi_label_data_is_decided_for_itself():
    p = torch.tensor([[0.96, 0.97, 0.03], [0.94, 0.06, 0.5]])
    found = pseudo_labels(p.logit(), multi_label=True)
    assert found.used.tolist() == [[True, True, True], [False, False, False]]
    assert found.labels[0].tolist() == [1, 1, 0]
    assert math.isclose(found.share, 1 / 2)
    assert math.isclose(found.positives, 1)


@pytest.mark.parametrize("logit", [0.4, 0.9, 1.7, 2.7, 3.1, 4.4, 5.2])
def test_what_is_exactly_as_sure_as_the_threshold_is_used(logit):
    weak = torch.tensor([[logit, -logit]])
    sure = weak.sigmoid()[0, 0].item()
    assert pseudo_labels(weak, multi_label=True, threshold=sure).used.tolist() == [[True, True]]
    sure = weak.softmax(dim=1)[0, 0].item()
    assert pseudo_labels(weak, multi_label=False, threshold=sure).share == 1


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.9])
def test_a_class_and_its_opposite_are_equally_sure(threshold):
    weak = logits(20, 1).float()
    found, opposite = (
        pseudo_labels(sign * weak, multi_label=True, threshold=threshold) for sign in (1, -1)
    )
    assert torch.equal(found.used, opposite.used)
    assert torch.equal(found.labels[found.used], 1 - opposite.labels[found.used])


@pytest.mark.parametrize(
    ("multi_label", "threshold", "said"),
    [
        (True, 0.5, "threshold is 0.5, but for multi-label data it must be above 0.5"),
        (False, 0.0, "threshold is 0.0, but for single-label data it must be above 0.0"),
        (False, 1.1, "at most 1"),
    ],
)
def test_a_threshold_that_decides_nothing_is_refused(multi_label, threshold, said):
    with pytest.raises(InputError, match=said):
        fixmatch_loss(logits(2, 1), logits(2, 2), multi_label=multi_label, threshold=threshold)
    with pytest.raises(InputError, match=said):
        FixMatchLoss(nn.Identity(), multi_label=multi_label, threshold=threshold)


def test_views_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match=r"\[2, 3\] and \[3, 3\]"):
        fixmatch_loss(logits(2, 1), logits(3, 2), multi_label=False)
    with pytest.raises(InputError, match="empty"):
        fixmatch_loss(logits(0, 1), logits(0, 2), multi_label=False)


@each
def test_the_loss_labels_in_evaluation_mode_and_trains_the_strong_view(multi_label):
    model, weak, strong = network("plain").eval(), pictures(5), pictures(5, seed=2)
    with torch.no_grad():
        labelled = model(weak)
    threshold = 0.51 if multi_label else 0.26
    loss = FixMatchLoss(model, multi_label=multi_label, threshold=threshold)
    torch.manual_seed(0)
    found = loss(weak, strong)
    torch.manual_seed(0)
    model[3].train()  # dropout is on for the strong view, and BatchNorm frozen
    expected = fixmatch_loss(labelled, model(strong), multi_label=multi_label, threshold=threshold)
    assert expected > 0
    torch.testing.assert_close(found, expected)
    weights = list(model.parameters())
    torch.testing.assert_close(
        *[torch.autograd.grad(value, weights) for value in (found, expected)]
    )


def test_the_model_is_given_back_as_it_was():
    model = stages().eval()
    model.stages[1].train()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    FixMatchLoss(model, multi_label=True)(pictures(3), pictures(3, seed=2)).backward()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class FailsInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network("plain")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("out of memory")
        return self.net(x)


def test_an_error_inside_the_network_leaves_it_as_it_was():
    model = FailsInTraining().eval()
    with pytest.raises(RuntimeError, match="out of memory"):
        FixMatchLoss(model, multi_label=True)(pictures(2), pictures(2))
    assert not any(module.training for module in model.modules())


class Recorded(nn.Module):
    """Notes in which mode it ran, and whether a graph was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = network("plain"), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return self.net(x)


def test_the_weak_view_costs_no_graph():
    model = Recorded()
    FixMatchLoss(model, multi_label=True)(pictures(2), pictures(2))
    assert model.seen == [(False, False), (True, True)]


def test_a_network_that_writes_to_its_input_leaves_the_views_alone():
    model, weak, strong = network("edits"), pictures(2), pictures(2, seed=2)
    FixMatchLoss(model, multi_label=True)(weak, strong)
    assert torch.equal(weak, pictures(2))
    assert torch.equal(strong, pictures(2, seed=2))


def test_batch_statistics_are_those_of_the_strong_views():
    model, weak, strong = network("plain").eval(), pictures(5), pictures(5, seed=2)
    mean = model[1].running_mean.clone()
    FixMatchLoss(model, multi_label=True, batch_norm="batch")(weak, strong)
    expected = 0.9 * mean + 0.1 * model[0](strong).mean(dim=(0, 2, 3))
    torch.testing.assert_close(model[1].running_mean, expected)


def test_a_step_is_the_loss_of_both_views_and_says_how_many_labels_were_sure():
    model, weak, strong = network("functional"), pictures(6), pictures(6, seed=2)
    loss = FixMatchLoss(model, multi_label=True, threshold=0.55)
    batch = ViewBatch(weak, torch.full((6, 4), math.nan), tuple("abcdef"), second=strong)
    outcome = fixmatch_step(loss, loss)(batch)
    torch.testing.assert_close(outcome.loss, loss(weak, strong))
    p = model.eval()(weak).sigmoid()
    assert 0 < outcome.logged["pseudo_labels"] < 1
    assert outcome.logged["pseudo_labels"] == ((p - 0.5).abs() >= 0.05).double().mean()
    assert outcome.logged["pseudo_positives"] == (p >= 0.55).double().sum(dim=1).mean()


def test_a_step_on_one_view_is_refused():
    loss = FixMatchLoss(network("plain"), multi_label=True)
    with pytest.raises(TypeError, match="needs a ViewBatch, not a Batch"):
        fixmatch_step(loss, loss)(Batch(pictures(2), torch.zeros(2, 4), ("a", "b")))


def test_training_makes_the_strong_view_say_what_the_weak_one_does():
    model, weak = network("functional"), pictures(6)
    strong = weak + 0.5 * pictures(6, seed=5)
    loss = FixMatchLoss(model, multi_label=False, threshold=0.25)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = float(loss(weak, strong).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss(weak, strong).backward()
        optimizer.step()
    assert loss.found.share == 1
    assert float(loss(weak, strong).detach()) < 0.3 * start
