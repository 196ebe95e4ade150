"""NT-Xent against lightly, against loops over the formulas, and its gradients."""

import math

import pytest
import torch
from finite_differences import slopes
from lightly.loss import DCLLoss, NTXentLoss
from torch.nn.functional import cosine_similarity

from atcon.baselines.simclr import nt_xent

TEMPERATURES = (0.1, 0.5, 2.0)
GROUPS = [0, 1, 1, 4, 0, 7]
HELD_GROUPS = [1, 9, 0, 4]


def drawn(count: int, seed: int) -> torch.Tensor:
    make = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=make, dtype=torch.float64).requires_grad_()


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    return drawn(6, 1), drawn(6, 2)


def by_loop(first, second, *, temperature, decoupled, queue=(), groups=None, queue_groups=None):
    """The formulas of the papers, one view and one term at a time."""
    count = len(first)
    samples = [*range(count), *range(count)]
    views = [*first, *second]
    owner = groups or list(range(count))
    total = 0.0
    for i, view in enumerate(views):
        similar = [cosine_similarity(view, other, dim=0) / temperature for other in views]
        positive = similar[(i + count) % (2 * count)]
        terms = [
            similar[k].exp() for k in range(2 * count) if owner[samples[k]] != owner[samples[i]]
        ]
        for k, held in enumerate(queue):
            if queue_groups is None or queue_groups[k] != owner[samples[i]]:
                terms.append((cosine_similarity(view, held, dim=0) / temperature).exp())
        if not decoupled:
            terms.append(positive.exp())
        total = total - positive + (sum(terms).log() if terms else 0.0)
    return total / (2 * count)


def assert_same(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(value, inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_value_and_gradients_are_those_of_lightly(views, temperature):
    found = nt_xent(*views, temperature=temperature)
    assert_same(found, NTXentLoss(temperature=temperature)(*views), views)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_decoupled_value_and_gradients_are_those_of_lightly(views, temperature):
    found = nt_xent(*views, temperature=temperature, decoupled=True)
    assert_same(found, DCLLoss(temperature=temperature)(*views), views)


def test_with_negatives_of_the_queue_only_it_is_the_loss_of_lightlys_memory_bank(views):
    queue = drawn(4, 3).detach()
    expected = []
    for pair in (views, views[::-1]):
        lightly = NTXentLoss(temperature=0.2, memory_bank_size=(4, 5))
        lightly.memory_bank.bank = queue / queue.norm(dim=1, keepdim=True)
        expected.append(lightly(*pair))
    same, other = torch.zeros(6, dtype=torch.long), torch.ones(4, dtype=torch.long)
    found = nt_xent(*views, temperature=0.2, queue=queue, groups=same, queue_groups=other)
    assert_same(found, (expected[0] + expected[1]) / 2, views)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("held", [0, 4])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_variant_is_its_formula(views, decoupled, held, grouped):
    queue = drawn(held, 3).detach()
    options = {"temperature": 0.3, "decoupled": decoupled, "queue": queue}
    owners = {"groups": GROUPS, "queue_groups": HELD_GROUPS[:held]} if grouped else {}
    found = nt_xent(*views, **options, **{key: torch.tensor(x).long() for key, x in owners.items()})
    assert_same(found, by_loop(*views, **options, **owners), views)


@pytest.mark.parametrize("decoupled", [False, True])
def test_one_patient_that_fills_the_batch_is_its_formula(views, decoupled):
    groups = [0, 0, 0, 0, 0, 0]
    options = {"temperature": 0.3, "decoupled": decoupled}
    found = nt_xent(*views, **options, groups=torch.tensor(groups))
    assert_same(found, by_loop(*views, **options, groups=groups) + 0 * views[0].sum(), views)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("groups", [None, GROUPS, [0, 0, 0, 0, 0, 1]])
def test_gradients_match_finite_differences(views, decoupled, groups):
    queue = drawn(4, 3).detach()

    def value():
        return nt_xent(
            *views,
            temperature=0.3,
            decoupled=decoupled,
            queue=queue,
            groups=None if groups is None else torch.tensor(groups),
            queue_groups=torch.tensor(HELD_GROUPS),
        )

    gradients = torch.autograd.grad(value(), views)
    for found, expected in slopes(views, gradients, lambda: value().detach()):
        assert math.isclose(found, expected, rel_tol=1e-7, abs_tol=1e-9)
