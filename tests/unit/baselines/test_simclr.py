import math

import pytest
import torch
import torchvision
from finite_differences import slopes
from tiny import network, pictures
from tiny_transformers import transformer
from torch import nn

from atcon.baselines.simclr import Queue, SimCLRLoss, nt_xent, simclr_step
from atcon.baselines.two_views import ViewBatch
from atcon.errors import InputError
from atcon.training import Batch

HEAD = "7.fc"  # of the plain tiny network
VARIANTS = [
    {},
    {"decoupled": True},
    {"queue": True},
    {"groups": True},
    {"decoupled": True, "queue": True, "groups": True},
]

each = pytest.mark.parametrize(
    "variant", VARIANTS, ids=lambda variant: "-".join(variant) or "plain"
)


def drawn(count: int, seed: int) -> torch.Tensor:
    make = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=make, dtype=torch.float64)


def options_of(variant: dict[str, bool]) -> dict[str, object]:
    """The variant's options for a batch of five."""
    options: dict[str, object] = {"decoupled": variant.get("decoupled", False)}
    if "queue" in variant:
        options["queue"] = drawn(3, 7)
    if "groups" in variant:
        options["groups"] = torch.tensor([0, 1, 1, 2, 0])
        options["queue_groups"] = torch.tensor([2, 5, 1]) if "queue" in variant else None
    return options


def test_embeddings_that_are_all_alike_give_the_chance_loss():
    alike = torch.ones(12, 4, dtype=torch.float64)
    assert math.isclose(nt_xent(alike, alike).item(), math.log(23), rel_tol=1e-12)
    assert math.isclose(
        nt_xent(alike, alike, temperature=0.1, decoupled=True).item(), math.log(22), rel_tol=1e-12
    )
    queue = torch.ones(9, 4, dtype=torch.float64)
    assert math.isclose(nt_xent(alike, alike, queue=queue).item(), math.log(32), rel_tol=1e-12)


def test_orthogonal_samples_give_the_closed_form():
    views = torch.eye(4, dtype=torch.float64)
    expected = math.log(1 + 6 * math.exp(-2))
    assert math.isclose(nt_xent(views, views, temperature=0.5).item(), expected, rel_tol=1e-12)


@each
def test_the_two_views_may_be_exchanged(variant):
    first, second = drawn(5, 1), drawn(5, 2)
    options = options_of(variant)
    torch.testing.assert_close(
        nt_xent(first, second, **options), nt_xent(second, first, **options), rtol=1e-12, atol=0
    )


@each
def test_the_order_of_the_batch_and_of_the_queue_does_not_matter(variant):
    first, second, order = drawn(5, 1), drawn(5, 2), [3, 0, 4, 2, 1]
    options = options_of(variant)
    moved = {key: x[order] if key == "groups" else x for key, x in options.items()}
    for key in ("queue", "queue_groups"):
        if moved.get(key) is not None:
            moved[key] = moved[key].flip(0)
    torch.testing.assert_close(
        nt_xent(first[order], second[order], **moved),
        nt_xent(first, second, **options),
        rtol=1e-12,
        atol=0,
    )


@each
def test_the_length_of_an_embedding_does_not_matter(variant):
    first, second = drawn(5, 1), drawn(5, 2)
    options = options_of(variant)
    scales = torch.tensor([0.1, 3.0, 1.0, 200.0, 0.5], dtype=torch.float64)[:, None]
    longer = {key: 7 * x if key == "queue" else x for key, x in options.items()}
    torch.testing.assert_close(
        nt_xent(first * scales, second * scales.flip(0), **longer),
        nt_xent(first, second, **options),
        rtol=1e-12,
        atol=0,
    )


def test_one_group_leaves_only_the_positives():
    first, second, same = drawn(5, 1), drawn(5, 2), torch.zeros(5, dtype=torch.long)
    assert nt_xent(first, second, groups=same).abs() < 1e-12
    positives = torch.nn.functional.cosine_similarity(first, second)
    torch.testing.assert_close(
        nt_xent(first, second, temperature=0.5, decoupled=True, groups=same),
        -positives.mean() / 0.5,
    )


def test_samples_of_one_group_do_not_feel_each_other():
    first, second = drawn(4, 1).requires_grad_(), drawn(4, 2)
    nt_xent(first, second, decoupled=True, groups=torch.tensor([3, 3, 3, 3])).backward()
    together = first.grad.clone()
    for index in range(4):
        alone = first.detach()[index : index + 1].requires_grad_()
        nt_xent(alone, second[index : index + 1], decoupled=True).backward()
        torch.testing.assert_close(together[index], alone.grad[0] / 4)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("groups", [[0], [0, 0, 0, 1], [2, 2, 2, 2]])
def test_samples_without_negatives_keep_value_and_gradient_finite(decoupled, groups):
    first, second = drawn(len(groups), 1).requires_grad_(), drawn(len(groups), 2)
    loss = nt_xent(first, second, decoupled=decoupled, groups=torch.tensor(groups))
    loss.backward()
    assert loss.isfinite()
    assert first.grad.isfinite().all()


def test_an_embedding_of_zeros_keeps_the_gradient_finite():
    first, second = torch.zeros(3, 4, requires_grad=True), torch.ones(3, 4)
    nt_xent(first, second).backward()
    assert first.grad.isfinite().all()


def test_a_cold_temperature_does_not_overflow():
    first, second = drawn(4, 1).float().requires_grad_(), drawn(4, 2).float()
    loss = nt_xent(first, second, temperature=1e-3)
    loss.backward()
    assert loss.isfinite()
    assert first.grad.isfinite().all()


def test_the_queue_is_a_constant():
    queue = drawn(3, 3).requires_grad_()
    assert not nt_xent(drawn(2, 1), drawn(2, 2), queue=queue).requires_grad
    assert nt_xent(drawn(2, 1).requires_grad_(), drawn(2, 2), queue=queue).requires_grad


def test_half_precision_is_compared_in_single():
    first, second = drawn(4, 1).bfloat16(), drawn(4, 2).bfloat16()
    found = nt_xent(first, second)
    assert found.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(first.float(), second.float()), found)


@pytest.mark.parametrize(
    ("first", "second", "options", "said"),
    [
        (drawn(3, 1), drawn(4, 1), {}, r"\[3, 4\] and \[4, 4\]"),
        (drawn(0, 1), drawn(0, 1), {}, "two views"),
        (drawn(3, 1), drawn(3, 2), {"groups": torch.tensor([0])}, r"groups \[1\] for 3 samples"),
        (
            drawn(3, 1),
            drawn(3, 2),
            {"queue": drawn(2, 3), "groups": torch.arange(3), "queue_groups": torch.arange(1)},
            r"queue_groups \[1\] for 2 samples",
        ),
        (drawn(3, 1), drawn(3, 2), {"temperature": 0.0}, "above 0, but it is 0.0"),
    ],
)
def test_what_cannot_be_compared_is_said(first, second, options, said):
    with pytest.raises(InputError, match=said):
        nt_xent(first, second, **options)


def test_a_queue_holds_the_last_that_were_pushed():
    queue, rows = Queue(5, 2), torch.arange(28.0).reshape(14, 2)
    groups = torch.arange(14)
    assert [len(part) for part in queue.held()] == [0, 0]
    done = 0
    for count in (2, 1, 4, 7):  # fills it, turns around, and is more than it can hold
        queue.push(rows[done : done + count], groups[done : done + count])
        done += count
        held, held_groups = queue.held()
        order = held_groups.argsort()
        assert held_groups[order].tolist() == list(range(max(0, done - 5), done))
        assert torch.equal(held[order], rows[max(0, done - 5) : done])


def test_a_queue_goes_on_from_a_checkpoint():
    first, second = Queue(3, 2), Queue(3, 2)
    first.push(torch.eye(2), torch.tensor([4, 5]))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.push(torch.ones(2, 2), torch.tensor([6, 7]))
    assert torch.equal(first.held()[0], second.held()[0])
    assert first.held()[1].tolist() == second.held()[1].tolist() == [7, 5, 6]


def test_what_was_queued_without_a_group_is_a_negative_of_every_group():
    queue = Queue(3, 4).double()
    queue.push(drawn(3, 3))
    held, nobody = queue.held()
    first, second, groups = drawn(2, 1), drawn(2, 2), torch.tensor([0, -1])
    assert torch.equal(
        nt_xent(first, second, queue=held, groups=groups, queue_groups=nobody),
        nt_xent(first, second, queue=held, groups=groups),
    )


def test_a_queue_for_nothing_is_refused():
    with pytest.raises(InputError, match="holds nothing"):
        Queue(0, 4)


def without_dropout() -> nn.Module:
    model = network("plain")
    model[3].p = 0.0
    return model


def by_hand(loss: SimCLRLoss, features: nn.Module, first, second, **options) -> torch.Tensor:
    """NT-Xent of the projected features of both views."""
    weights = [p.detach() for p in loss.projection.parameters()]
    embeddings = []
    for images in (first, second):
        hidden = (features(images) @ weights[0].T + weights[1]).clamp(min=0)
        embeddings.append(hidden @ weights[2].T + weights[3])
    return nt_xent(*embeddings, **options)


def test_the_loss_is_nt_xent_of_what_enters_the_head():
    model, first, second = without_dropout(), pictures(3), pictures(3, seed=2)
    loss = SimCLRLoss(model, HEAD, dimension=6, temperature=0.2)
    backbone = model[:7]
    expected = by_hand(loss, lambda x: backbone(x).mean(dim=(2, 3)), first, second, temperature=0.2)
    torch.testing.assert_close(loss(first, second), expected)


def test_a_convolutional_head_is_given_a_map_that_is_averaged():
    model = torchvision.models.squeezenet1_1(num_classes=4).eval()
    make = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 2, 3, 48, 48, generator=make)
    loss = SimCLRLoss(model, "classifier.1", dimension=3)
    model.classifier[0].p = 0.0
    expected = by_hand(loss, lambda x: model.features(x).mean(dim=(2, 3)), first, second)
    torch.testing.assert_close(loss(first, second), expected)


@pytest.mark.parametrize(("name", "head"), [("vit", "heads.head"), ("registers", "fc")])
def test_transformers_have_features_too(name, head):
    model = transformer(name)
    loss = SimCLRLoss(model, head, dimension=3)
    value = loss(pictures(2, 32), pictures(2, 32, seed=2))
    value.backward()
    assert 0 < value.item() < 10
    assert all(parameter.grad is not None for parameter in loss.projection.parameters())


class TokenHead(nn.Module):
    """A linear head that scores every token; the scores are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 5, 4, 4), nn.Linear(5, 2)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.patches(x).flatten(2).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.tokens(x)).mean(dim=1)


def test_a_head_on_tokens_is_given_their_mean():
    model, first, second = TokenHead().double(), pictures(3), pictures(3, seed=2)
    loss = SimCLRLoss(model, "head", dimension=3)
    expected = by_hand(loss, lambda x: model.tokens(x).mean(dim=1), first, second)
    torch.testing.assert_close(loss(first, second), expected)


def test_the_network_is_given_back_with_its_head_hooks_mode_and_statistics():
    model = network("plain").eval()
    model[5].train()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    loss = SimCLRLoss(model, HEAD)
    loss(pictures(3), pictures(3, seed=2)).backward()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model(pictures(2)).shape == (2, 4)


def test_an_error_inside_the_network_leaves_it_as_it_was():
    model = network("plain").eval()
    loss = SimCLRLoss(model, HEAD)
    with pytest.raises(RuntimeError, match="channels"):
        loss(pictures(2)[:, :2], pictures(2)[:, :2])
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_encoder_and_the_projection_learn_and_the_head_does_not():
    model = network("plain")
    loss = SimCLRLoss(model, HEAD)
    loss(pictures(3), pictures(3, seed=2)).backward()
    without = {name for name, value in loss.named_parameters() if value.grad is None}
    assert without == {f"encoder.{HEAD}.weight", f"encoder.{HEAD}.bias"}
    assert all(
        bool(value.grad.any()) for name, value in loss.named_parameters() if name not in without
    )


def test_gradients_of_the_weights_match_finite_differences():
    model, first, second = without_dropout(), pictures(3), pictures(3, seed=2)
    loss = SimCLRLoss(model, HEAD, dimension=6, temperature=0.2)
    weights = [p for name, p in loss.named_parameters() if HEAD not in name]
    gradients = torch.autograd.grad(loss(first, second), weights)
    for found, expected in slopes(weights, gradients, lambda: loss(first, second).detach()):
        assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-8)


def test_batch_statistics_are_those_of_both_views_and_move_the_running_ones():
    model, first, second = without_dropout(), pictures(3), pictures(3, seed=2)
    mean = model[1].running_mean.clone()
    loss = SimCLRLoss(model, HEAD, dimension=6, batch_norm="batch")
    found = loss(first, second)
    outputs = model[0](torch.cat([first, second]))
    torch.testing.assert_close(
        model[1].running_mean, 0.9 * mean + 0.1 * outputs.mean(dim=(0, 2, 3))
    )
    backbone = model.train()[:7]
    embeddings = loss.projection(backbone(torch.cat([first, second])).mean(dim=(2, 3)))
    torch.testing.assert_close(found, nt_xent(*embeddings.tensor_split(2)))


def test_the_queue_holds_both_views_of_the_batches_before():
    model = without_dropout()
    loss = SimCLRLoss(model, HEAD, dimension=6, queue_size=8)
    plain = SimCLRLoss(model, HEAD, dimension=6)
    batches = [(pictures(2, seed=k), pictures(2, seed=k + 10)) for k in range(3)]
    groups = torch.tensor([4, 5])
    with torch.no_grad():
        embeddings = [plain.projection(model[:7](torch.cat(b)).mean((2, 3))) for b in batches]
    torch.testing.assert_close(loss(*batches[0], groups), plain(*batches[0]))  # empty as yet
    expected = nt_xent(
        *embeddings[1].tensor_split(2),
        queue=embeddings[0],
        groups=groups,
        queue_groups=groups.repeat(2),
    )
    torch.testing.assert_close(loss(*batches[1], groups), expected)
    with torch.no_grad():
        loss(*batches[2], groups)  # no training, so it does not move on
    assert loss.queue.held()[1].tolist() == [4, 5] * 4
    torch.testing.assert_close(
        loss.queue.held()[0], nn.functional.normalize(torch.cat(embeddings[:2]))
    )


def test_a_loss_that_was_saved_goes_on_alike():
    first, second = pictures(2), pictures(2, seed=2)
    losses = [
        SimCLRLoss(
            without_dropout(), HEAD, queue_size=6, generator=torch.Generator().manual_seed(k)
        )
        for k in range(2)
    ]
    assert losses[0](first, second) != losses[1](first, second)
    losses[1].load_state_dict(losses[0].state_dict())
    found = [loss(second, first) for loss in losses]
    assert torch.equal(*found)


def test_the_projection_is_drawn_from_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = SimCLRLoss(network("plain"), HEAD).projection
    torch.set_rng_state(before)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = SimCLRLoss(network("plain"), HEAD).projection
    assert torch.equal(first[0].weight, again[0].weight)
    bound = 5**-0.5
    assert first[0].weight.abs().max() < bound
    assert abs(first[2].weight.std() - bound / 3**0.5) < 0.03


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("7.fcc", "no head of Sequential '7.fcc': did you mean '7.fc'"),
        ("6", "the head '6' is a ReLU: name the linear layer"),
    ],
)
def test_a_wrong_head_is_said(head, said):
    with pytest.raises(InputError, match=said):
        SimCLRLoss(network("plain"), head)


class Idle(nn.Module):
    """Has a head that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).mean(dim=(2, 3))


def test_a_head_that_does_not_run_is_said():
    with pytest.raises(InputError, match="'head' did not run"):
        SimCLRLoss(Idle().double(), "head")(pictures(2), pictures(2))


def test_a_step_is_the_loss_of_both_views_and_says_how_they_agree():
    model, first, second = without_dropout(), pictures(3), pictures(3, seed=2)
    loss = SimCLRLoss(model, HEAD)
    groups, names = torch.tensor([0, 0, 1]), ("a", "b", "c")
    batch = ViewBatch(first, torch.zeros(3, 4), names, second=second, groups=groups)
    outcome = simclr_step(loss, loss)(batch)
    torch.testing.assert_close(outcome.loss, loss(first, second, groups))
    with torch.no_grad():
        one, two = (
            nn.functional.normalize(loss.projection(model[:7](x).mean((2, 3))))
            for x in (first, second)
        )
    cosines = one @ two.T
    assert math.isclose(outcome.logged["positive"], cosines.diagonal().mean(), rel_tol=1e-9)
    between = cosines[~torch.eye(3, dtype=torch.bool)].mean()
    assert math.isclose(outcome.logged["between_samples"], between, rel_tol=1e-9)


def test_a_step_on_one_view_is_refused():
    loss = SimCLRLoss(network("plain"), HEAD)
    with pytest.raises(TypeError, match="needs a ViewBatch, not a Batch"):
        simclr_step(loss, loss)(Batch(pictures(2), torch.zeros(2, 4), ("a", "b")))


def test_training_lets_views_agree_and_samples_differ():
    model, first = without_dropout(), pictures(6)
    second = first + 0.1 * pictures(6, seed=9)
    loss = SimCLRLoss(model, HEAD, dimension=8, temperature=0.2)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    start = float(loss(first, second).detach())
    for _ in range(40):
        optimizer.zero_grad()
        loss(first, second).backward()
        optimizer.step()
    end = float(loss(first, second).detach())
    assert end < 0.5 * start < 0.5 * math.log(11) + 0.5
    assert loss.agreement.positive > 0.9
    assert loss.agreement.between < 0.3
