"""What the consistency of every pair of maps promises, however they are compared."""

import copy
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from finite_differences import slopes
from maps import DIFFERENTIABLE, MAPS, OPTIONS
from tiny import network, pictures
from torch import nn

from atcon.attention import ATTENTION
from atcon.consistency import CORRELATIONS, MASKS, MATCHINGS, ConsistencyLoss, MaskOptions
from atcon.errors import InputError

MASKED = [name for name, matching in MATCHINGS.items() if matching.by == "mask"]
ALIKE = {
    "mask": "guided_backprop_mask",
    "upsample": "grad_cam_upsampled",
    "pool": "guided_backprop_pooled",
}
"""Without maps of their own, these compare the paper's."""

FORMS = {"guided_backprop_mask": MASKS, "grad_cam_mask": ("deviation",)}
COMBINATIONS = [
    {"matching": matching, "correlation": correlation, **mask}
    for matching, correlation in product([m for m in MATCHINGS if m not in ALIKE], CORRELATIONS)
    for mask in ([{"mask": name} for name in FORMS[matching]] if matching in MASKED else [{}])
]
COMBINED = pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda c: "-".join(c.values()))
EVERY_OPTION = MaskOptions(smooth=1.0, floor=0.2, strength=(0.5, 1.0))
PARTNER = {name: "guided_backprop" if name == "grad_cam" else "grad_cam" for name in MAPS}
BY = pytest.mark.parametrize("by", ["mask", "upsample", "pool"])


def quick(*names):
    """Entries of the table with options that keep tests fast."""
    return tuple(
        replace(ATTENTION[name], of=partial(ATTENTION[name].of, **OPTIONS[name]))
        if name in OPTIONS
        else ATTENTION[name]
        for name in names
    )


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)


def slope_and_difference(loss, model, images):
    """The derivative along a random direction of all weights, and its finite difference."""
    weights = torch.linspace(0.7, -1.3, len(images), dtype=images.dtype)

    def value(**options):
        return (weights * loss.compare(images, **options).correlation).sum()

    found = gradients(value(create_graph=True), model)
    (both,) = slopes(list(model.parameters()), found, value, count=1)
    return both


@pytest.mark.parametrize("name", ALIKE)
def test_a_matching_without_maps_of_its_own_compares_those_of_the_paper(name):
    model, images = network("plain"), pictures()
    found, expected = (
        ConsistencyLoss(model, matching=matching).compare(images)
        for matching in (name, ALIKE[name])
    )
    assert torch.equal(found.correlation, expected.correlation)
    assert found.pairs[0].names == expected.pairs[0].names == ("grad_cam", "guided_backprop")


@COMBINED
def test_gradient_matches_finite_differences(choices):
    model, images = network("residual"), pictures()
    target = torch.tensor([1, 2])
    loss = ConsistencyLoss(model, detach_mask=False, target=target, **choices)
    slope, difference = slope_and_difference(loss, model, images)
    assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)
    assert abs(slope) > 1e-5, "nothing to compare"


@BY
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_matches_with_every_map_in_either_place(name, by):
    model, images, target = network("plain"), pictures(), torch.tensor([1, 2])
    for maps in ((name, PARTNER[name]), (PARTNER[name], name)):
        loss = ConsistencyLoss(
            model,
            maps=quick(*maps),
            matching=by,
            mask="deviation",
            detach_mask=False,
            target=target,
        )
        slope, difference = slope_and_difference(loss, model, images)
        assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", CORRELATIONS)
@BY
@pytest.mark.parametrize("maps", [*product(DIFFERENTIABLE, repeat=2)], ids="-".join)
def test_gradient_matches_for_every_pair_of_maps(maps, by, correlation):
    model, images, target = network("residual"), pictures(), torch.tensor([1, 2])
    loss = ConsistencyLoss(
        model,
        maps=quick(*maps),
        matching=by,
        mask="deviation",
        detach_mask=False,
        correlation=correlation,
        target=target,
    )
    slope, difference = slope_and_difference(loss, model, images)
    assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("matching", MASKED)
def test_gradient_matches_with_every_mask_option(matching):
    model, images = network("plain"), pictures()
    loss = ConsistencyLoss(
        model,
        matching=matching,
        mask="deviation",
        mask_options=EVERY_OPTION,
        detach_mask=False,
        squash=True,
        target="positive",
        generator=torch.Generator(),
    )
    slope, difference = slope_and_difference(loss, model, images)
    assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)


@COMBINED
def test_a_batch_equals_its_images_one_by_one(choices):
    model, images = network("plain"), pictures(3)
    loss = ConsistencyLoss(model, **choices)
    together = loss.compare(images).correlation
    alone = torch.cat([loss.compare(image[None]).correlation for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


@BY
@pytest.mark.parametrize("name", MAPS)
def test_any_map_is_compared_image_by_image(name, by):
    model, images = network("plain"), pictures()
    for maps in ((name, PARTNER[name]), (PARTNER[name], name)):
        loss = ConsistencyLoss(model, maps=quick(*maps), matching=by, mask="deviation")
        together = loss.compare(images, also=["grad_cam"])
        alone = torch.cat([loss.compare(image[None]).correlation for image in images])
        torch.testing.assert_close(together.correlation, alone, rtol=1e-9, atol=1e-11)
        assert together.correlation.abs().max() > 1e-4
        assert {"grad_cam", together.pairs[0].names[0]} <= set(together.maps)


@COMBINED
def test_an_image_is_compared_with_itself_only(choices):
    model, images = network("plain").train(), pictures(3)
    loss = ConsistencyLoss(model, target=1, **choices)
    before = loss.compare(images).correlation
    images[1] = 5 * images[1].flip(-1) + 1
    after = loss.compare(images).correlation
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-10, atol=1e-12)
    assert (after[1] - before[1]).abs() > 1e-7


@COMBINED
def test_keeps_the_type_and_is_near_the_exact_value(choices):
    found, exact = (
        ConsistencyLoss(network("residual", dtype=dtype), **choices)(pictures(dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    )
    assert (found.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert found.item() == pytest.approx(exact.item(), abs=1e-4)


@COMBINED
def test_leaves_the_model_as_it_found_it(choices):
    model, images = network("edits").train(), pictures()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    ConsistencyLoss(model, **choices)(images)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)


@COMBINED
@pytest.mark.parametrize("case", ["black", "constant", "huge", "zero network", "equal logits"])
def test_degenerate_input_has_a_finite_loss_and_gradient(choices, case):
    model, images = network("residual", dtype=torch.float32), pictures(dtype=torch.float32)
    if case == "zero network":
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    elif case == "equal logits":
        nn.init.zeros_(model.head.fc.weight)
    else:
        images[0] = {"black": 0.0, "constant": 0.7, "huge": 1e15}[case]
    loss = ConsistencyLoss(model, detach_mask=False, **choices)
    value = loss(images)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(value, model))
    if case in ("zero network", "equal logits"):
        assert value == 0


@COMBINED
def test_maps_of_one_position_are_finite(choices):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    loss = ConsistencyLoss(model, "1", detach_mask=False, **choices)
    value = loss(torch.randn(2, 3, 8, 8))
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(value, model))


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("by", ["upsample", "pool", "average_pool"])
@pytest.mark.parametrize("name", MAPS)
def test_identical_maps_agree_fully(name, by, correlation):
    (entry,) = quick(name)
    loss = ConsistencyLoss(
        network("plain"), maps=(entry, entry), matching=by, correlation=correlation
    )
    assert loss.compare(pictures()).correlation.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("name", MAPS)
def test_a_mask_that_masks_nothing_leaves_full_agreement(name, correlation):
    loss = ConsistencyLoss(
        network("plain"),
        maps=quick(name, PARTNER[name]),
        mask=torch.ones_like,
        correlation=correlation,
    )
    assert loss.compare(pictures()).correlation.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    "choices",
    [choices for choices in COMBINATIONS if choices.get("mask") not in ("variance", "reference")],
    ids=lambda choices: "-".join(choices.values()),
)
def test_the_scale_of_the_logits_changes_nothing_that_is_scale_free(choices):
    model, images = network("residual"), pictures()
    loss = ConsistencyLoss(model, **choices)
    before = loss.compare(images).correlation
    with torch.no_grad():
        model.head.fc.weight.mul_(8)
        model.head.fc.bias.mul_(8)
    torch.testing.assert_close(loss.compare(images).correlation, before, rtol=1e-9, atol=1e-9)


@COMBINED
def test_half_precision_is_near_and_compared_in_single_precision(choices):
    model, images = network("grouped", dtype=torch.float32), pictures(dtype=torch.float32)
    choices = {**choices, "mask": "deviation"} if "mask" in choices else choices
    loss = ConsistencyLoss(model, target=1, **choices)
    exact = loss.compare(images).correlation
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss.compare(images).correlation
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0, atol=0.15)


@COMBINED
def test_is_deterministic_under_a_generator(choices):
    model, images = network("plain"), pictures()
    make = torch.Generator()
    loss = ConsistencyLoss(model, mask_options=EVERY_OPTION, generator=make, **choices)
    values = []
    for seed in (0, 0, 1):
        make.manual_seed(seed)
        values.append(loss(images).item())
    assert values[0] == values[1]
    assert (values[0] != values[2]) == (choices["matching"] in MASKED)


@BY
@pytest.mark.parametrize("name", [name for name in MAPS if name not in DIFFERENTIABLE])
def test_a_map_without_a_gradient_is_a_detached_mask_or_evaluated(name, by):
    model, images = network("plain"), pictures()
    last, first = quick("grad_cam", name), quick(name, "grad_cam")
    for maps in (last, first):
        assert ConsistencyLoss(model, maps=maps, matching=by).compare(images).correlation.any()
    with pytest.raises(InputError, match="cannot be differentiated"):
        ConsistencyLoss(model, maps=first, matching=by)(images)
    with pytest.raises(InputError, match="cannot be differentiated"):
        ConsistencyLoss(model, maps=last, matching=by, detach_mask=False)(images)
    if by == "mask":
        value = ConsistencyLoss(model, maps=last, mask="deviation", detach_mask=True)(images)
        assert any(gradient.any() for gradient in gradients(value, model))


@COMBINED
def test_micro_batches_give_the_same_loss_and_gradient(choices):
    model, images = network("plain"), pictures(5)
    whole = ConsistencyLoss(model, detach_mask=False, **choices)
    parts = ConsistencyLoss(model, detach_mask=False, micro_batch=2, **choices)
    expected, found = whole(images), parts(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for a, b in zip(gradients(found, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
