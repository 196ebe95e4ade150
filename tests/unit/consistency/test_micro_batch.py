import copy

import pytest
import torch
from tiny import NETWORKS, network, pictures

from atcon.consistency import ConsistencyLoss
from atcon.consistency.micro_batch import Gathered
from atcon.errors import InputError


def gradients(model):
    return [p.grad for p in model.parameters()]


def backward(model, images, **options):
    model = copy.deepcopy(model)
    loss = ConsistencyLoss(model, mask="deviation", detach_mask=False, **options)
    value = loss(images)
    value.backward()
    return value, gradients(model), loss.details


def assert_same(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-11, atol=tolerance)


@pytest.mark.parametrize(
    ("built", "size"), [*((name, 2) for name in NETWORKS), *(("residual", n) for n in (1, 3, 5, 9))]
)
def test_loss_gradients_and_details_are_those_of_the_whole_batch(built, size):
    model, images = network(built), pictures(5)
    expected, whole, details = backward(model, images)
    found, parts, seen = backward(model, images, micro_batch=size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert_same(parts, whole)
    for name in ("correlation", "by_pair", "classes", "mask_contrast", "entropy"):
        torch.testing.assert_close(getattr(seen, name), getattr(details, name))
    assert seen.between_images == pytest.approx(details.between_images, abs=1e-12)
    assert seen.activations == details.activations


@pytest.mark.parametrize(
    "target",
    [
        None,
        1,
        "positive",
        torch.tensor([0, 1, 2, 3, 0]),
        torch.eye(5, 4),
        lambda logits: torch.tensor([0, 1, 2, 3, 0]),
        lambda logits: logits.argmin(dim=1),
    ],
    ids=["top", "index", "positive", "indices", "weights", "labels", "rule"],
)
def test_every_kind_of_target_goes_with_its_images(target):
    model, images = network("residual"), pictures(5)
    expected, whole, details = backward(model, images, target=target)
    found, parts, seen = backward(model, images, target=target, micro_batch=2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(seen.classes, details.classes)
    assert_same(parts, whole)


def test_the_memory_is_that_of_one_chunk():
    """What autograd keeps at the same time, counted in elements."""
    peaks = []
    for size, count in ((None, 2), (2, 8)):
        kept, peak = set(), [0]

        class Kept:
            def __init__(self, tensor, kept=kept, peak=peak):
                self.tensor, self.kept = tensor, kept
                kept.add((id(self), tensor.numel()))
                peak[0] = max(peak[0], sum(n for _, n in kept))

            def __del__(self):
                self.kept.discard((id(self), self.tensor.numel()))

        loss = ConsistencyLoss(network("residual"), "relu", micro_batch=size)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda box: box.tensor):
            value = loss(pictures(count))
        value.backward()
        peaks.append(peak[0])
    assert peaks[1] < 1.3 * peaks[0]


def test_only_the_weights_hold_the_loss_together():
    value = ConsistencyLoss(network("residual"), micro_batch=2)(pictures(4))
    edges = [node for node, _ in value.grad_fn.next_functions if node is not None]
    assert edges
    assert all(type(node).__name__ == "AccumulateGrad" for node in edges)


def test_backward_scales_and_accumulates():
    model, images = network("plain"), pictures(4)
    loss = ConsistencyLoss(model, mask="deviation", micro_batch=2)
    _, once, _ = backward(model, images, micro_batch=2)
    model.zero_grad()
    loss = ConsistencyLoss(model, mask="deviation", detach_mask=False, micro_batch=2)
    (3 * loss(images)).backward()
    (0.5 * loss(images)).backward()
    assert_same(gradients(model), [None if g is None else 3.5 * g for g in once])


def test_a_gradient_scaler_unscales_what_was_scaled():
    model, images = network("plain", dtype=torch.float32), pictures(4, dtype=torch.float32)
    results = []
    for size in (None, 2):
        one = copy.deepcopy(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = torch.optim.SGD(one.parameters(), 0.1)
        loss = ConsistencyLoss(one, mask="deviation", micro_batch=size)
        scaler.scale(loss(images)).backward()
        scaler.step(optimizer)
        scaler.update()
        results.append([p.detach() for p in one.parameters()])
    assert not torch.equal(results[0][0], model[0].weight)
    assert_same(*results, tolerance=1e-6)


def test_small_half_precision_gradients_do_not_vanish_and_large_ones_do_not_overflow():
    for factor in (1e-4, 1e-1, 100.0):
        weight = torch.nn.Parameter(torch.tensor([1.0]))
        gathered = Gathered([weight], half=True)
        gathered.add((weight.half() * torch.tensor([3e-4 * factor]).half()).sum().float() * 1e-3)
        gathered.hand_over(torch.tensor(0.0)).backward()
        half = torch.tensor([3e-4 * factor]).half().item() * 1e-3
        assert weight.grad.item() == pytest.approx(half, rel=2e-3)


def test_without_gradients_it_only_evaluates():
    model, images = network("plain"), pictures(5)
    loss = ConsistencyLoss(model, micro_batch=2)
    expected = ConsistencyLoss(model)(images)
    with torch.no_grad():
        found = loss(images)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)
    assert torch.equal(loss.compare(images).correlation, loss.details.correlation)
    model.requires_grad_(requires_grad=False)
    assert not loss(images).requires_grad


def test_frozen_parameters_get_no_gradient():
    model, images = network("plain"), pictures(4)
    model[0].weight.requires_grad_(requires_grad=False)
    _, whole, _ = backward(model, images)
    _, parts, _ = backward(model, images, micro_batch=3)
    assert parts[0] is None
    assert_same(parts, whole)


def test_a_second_derivative_is_refused():
    model, images = network("plain"), pictures(4)
    value = ConsistencyLoss(model, micro_batch=2)(images)
    weight = model[4].weight
    (gradient,) = torch.autograd.grad(value * weight.sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_what_cannot_be_cut_is_an_input_error():
    model, images = network("plain"), pictures(4)
    with pytest.raises(InputError, match="micro_batch must be 1 or larger"):
        ConsistencyLoss(model, micro_batch=0)
    with pytest.raises(InputError, match="samples that do not interact"):
        ConsistencyLoss(model, micro_batch=2, batch_statistics=True)
    with pytest.raises(InputError, match="no gradient of the images"):
        ConsistencyLoss(model, micro_batch=2)(images.requires_grad_())
    with pytest.raises(InputError, match="no images"):
        ConsistencyLoss(model, micro_batch=2)(pictures()[:0])
