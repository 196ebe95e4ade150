import pytest
import torch
from tiny import NETWORKS, network, pictures

from atcon.attention import resolve_layer
from atcon.consistency import MASKS, Preset, compare, method_of

STEP = 1e-6
TABLE_NETWORKS = [name for name in NETWORKS if name != "edits"]


def objective(model, layer, images, classes, mask, *, create_graph=False, **choices):
    """Minus the correlations, weighted unequally so that no sample can hide behind another."""
    method = method_of(Preset(mask, **choices))
    result = compare(model, images, {"": layer}, method, target=classes, create_graph=create_graph)
    weights = torch.tensor([0.7, -1.3], dtype=images.dtype)
    return -(weights * result.correlation).sum(), result.mask


def directions(parameter, make, entries):
    """One direction through all entries of a tensor, and some of its entries alone."""
    for index in torch.randperm(parameter.numel(), generator=make)[:entries].tolist():
        unit = torch.zeros(parameter.numel(), dtype=parameter.dtype)
        unit[index] = 1
        yield unit.view_as(parameter)
    along = torch.randn(parameter.shape, dtype=parameter.dtype, generator=make)
    yield along / along.norm()


def assert_gradient(model, images, mask, *, entries=0, detach_mask=False, **options):
    _, layer = resolve_layer(model, None, images)
    classes = torch.tensor([1, 2])
    place = (model, layer, images, classes)
    loss, p = objective(*place, mask, detach_mask=detach_mask, create_graph=True, **options)
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [*named.values()], materialize_grads=True)
    assert sum(float(gradient.norm()) for gradient in gradients) > 1e-6, "nothing to compare"
    fixed = (lambda _maps: p.detach()) if detach_mask else mask
    make = torch.Generator().manual_seed(0)
    for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
        for direction in directions(parameter, make, entries):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.add_(direction, alpha=sign * STEP)
                ends.append(float(objective(*place, fixed, **options)[0]))
                with torch.no_grad():
                    parameter.sub_(direction, alpha=sign * STEP)
            expected = (ends[0] - ends[1]) / (2 * STEP)
            found = float((gradient * direction).sum())
            scale = max(float(g.abs().max()) for g in gradients)
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6 * max(scale, 1e-2)), name


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", TABLE_NETWORKS)
def test_gradient_of_every_parameter_matches_finite_differences(name, mask):
    assert_gradient(network(name), pictures(), MASKS[mask], entries=2 if mask == "deviation" else 0)


@pytest.mark.parametrize("detach_mask", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("squash", [False, True], ids=["plain", "squashed"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["inplace", "grouped"])
def test_gradient_matches_for_every_choice(name, mask, squash, detach_mask):
    assert_gradient(
        network(name, seed=3), pictures(seed=4), MASKS[mask], squash=squash, detach_mask=detach_mask
    )


def test_the_mask_carries_a_gradient_unless_it_is_detached():
    model, images = network("residual"), pictures()
    gradients = []
    for detach_mask in (False, True):
        loss, _ = objective(
            model,
            model.relu,
            images,
            None,
            MASKS["deviation"],
            detach_mask=detach_mask,
            create_graph=True,
        )
        gradients.append(torch.autograd.grad(loss, model.stem.weight)[0])
    attached, detached = gradients
    assert (attached - detached).norm() > 0.1 * attached.norm()


def test_the_last_bias_has_no_gradient():
    model = network("plain")
    loss, _ = objective(model, model[6], pictures(), None, MASKS["reference"], create_graph=True)
    (gradient,) = torch.autograd.grad(loss, model[-1].fc.bias, materialize_grads=True)
    assert not gradient.any()


def test_hooks_and_modes_do_not_matter_between_the_loss_and_its_backward():
    model, images = network("plain"), pictures()
    parameters = list(model.parameters())
    results = []
    for train in (False, True):
        model.train(train)
        loss, _ = objective(model, model[6], images, None, MASKS["deviation"], create_graph=True)
        model.train(not train)
        results.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
