"""Masks of which a part is drawn (section 6.1), in the loss."""

from functools import partial

import pytest
import torch
from finite_differences import slopes
from tiny import network, pictures

from atcon.consistency import (
    MASKS,
    ConsistencyLoss,
    MaskOptions,
    at_progress,
    compare,
    mask_contrast,
)
from atcon.consistency.stochastic import NOISE_WIDTH, draw, make_mask, mask_of, temperatures
from atcon.consistency.windows import blurred, smooth_noise
from atcon.errors import InputError

DRAWN = {
    "strength": MaskOptions(strength=(0.2, 0.9)),
    "temperature": MaskOptions(temperature=(0.5, 3.0)),
    "noise": MaskOptions(noise=0.8),
    "scales": MaskOptions(scales=(0.5, 1.0, 2.0)),
}
ALL = MaskOptions(
    strength=(0.2, 0.9), temperature=(0.5, 3.0), noise=0.8, scales=(0.5, 1.0, 2.0), floor=0.1
)
EVERY = pytest.mark.parametrize("options", [*DRAWN.values(), ALL], ids=[*DRAWN, "all"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def loss_of(model, options, seed=0, **others):
    chosen = {"mask": "deviation", "detach_mask": False, "target": 1, **others}
    return ConsistencyLoss(model, mask_options=options, generator=seeded(seed), **chosen)


def maps(count=3, size=(8, 9)):
    return torch.rand(count, *size, dtype=torch.float64, generator=seeded(7))


@EVERY
def test_gradient_matches_finite_differences(options):
    model, images = network("residual"), pictures(3)
    weights = list(model.parameters())
    value = loss_of(model, options, mirror=True)(images)
    found = torch.autograd.grad(value, weights, materialize_grads=True)
    assert sum(float(gradient.norm()) for gradient in found) > 1e-4

    def again():
        return loss_of(model, options, mirror=True)(images).detach()

    for slope, change in slopes(weights, found, again):
        assert slope == pytest.approx(change, rel=1e-5, abs=1e-8)


@EVERY
def test_images_draw_each_their_own_and_a_batch_what_its_beginning_draws(options):
    model, images = network("plain"), pictures(1).repeat(5, 1, 1, 1)
    loss = loss_of(model, options)
    loss(images)
    whole = loss.details.correlation
    assert len({round(float(value), 6) for value in whole}) > 1  # the same image, other draws
    other = loss_of(model, options)
    other(torch.cat([images[:3], pictures(1, seed=8)]))
    torch.testing.assert_close(other.details.correlation[:3], whole[:3], rtol=0, atol=1e-10)


@EVERY
@pytest.mark.parametrize("size", [1, 2, 5])
def test_micro_batches_have_masks_and_gradients_of_the_batch(options, size):
    results = []
    for micro_batch in (None, size):
        model = network("plain")
        loss = loss_of(model, options, micro_batch=micro_batch)
        loss(pictures(5)).backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        results.append((loss.details.mask_contrast, torch.cat(gradients)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


@EVERY
def test_every_step_draws_anew_and_evaluation_draws_nothing(options):
    model, images = network("plain"), pictures(3)
    loss = loss_of(model, options)
    state = loss.generator.get_state()
    middle = loss.compare(images)
    assert torch.equal(loss.generator.get_state(), state)
    plain = MaskOptions(
        strength=sum(options.strength_range) / 2,
        temperature=float(options.temperature_range[0] * options.temperature_range[1]) ** 0.5,
        smooth=options.scales[0] if options.scales else 0.0,
        floor=options.floor,
    )
    expected = ConsistencyLoss(model, mask="deviation", mask_options=plain, target=1)
    torch.testing.assert_close(middle.correlation, expected.compare(images).correlation)
    assert len({loss(images).item() for _ in range(3)}) == 3


def test_several_masks_of_an_image_draw_each_their_own():
    drawn = draw(ALL, 4, 2, seeded())
    assert all(values.shape == (4, 2) for values in drawn.values())
    assert all(len(values.unique()) == 8 for values in drawn.values())
    loss = loss_of(network("plain"), ALL, maps=("grad_cam", "guided_backprop", "guided_backprop"))
    first, second = (pair.mask for pair in loss.compare(pictures()).pairs[:2])
    torch.testing.assert_close(first, second)  # nothing is drawn: one map, one mask
    assert loss(pictures()).isfinite()


def test_what_is_drawn_is_within_its_range():
    options, count = MaskOptions(temperature=(0.5, 2.0)), 4000
    found = temperatures(options, draw(options, count, 1, seeded())["temperature"][:, 0])
    assert 0.5 <= found.min() < 0.51
    assert 1.99 < found.max() <= 2.0
    assert float(found.log().mean()) == pytest.approx(0, abs=0.02)  # uniform in the logarithm
    options = MaskOptions(scales=(0.0, 1.0, 3.0))
    shares = draw(options, 9, 1, seeded())["scales"][:, 0]
    p = mask_of(maps(9), torch.sigmoid, options, {"scales": shares})
    for image, share, mask in zip(maps(9), shares, p, strict=True):
        sigma = options.scales[int(3 * share)]
        torch.testing.assert_close(mask, torch.sigmoid(blurred(image[None], sigma))[0])
    assert {int(3 * share) for share in shares} == {0, 1, 2}


@pytest.mark.parametrize("size", [(40,), (12, 20), (6, 9, 9)])
def test_noise_is_standard_normal_everywhere_and_smooth(size):
    white = torch.randn(3000, *size, generator=seeded())
    noise = smooth_noise(white, NOISE_WIDTH)
    torch.testing.assert_close(noise.std(dim=0), torch.ones(size), rtol=0, atol=0.08)
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(size), rtol=0, atol=0.1)
    left, right = noise[..., :-1], noise[..., 1:]
    sigma = NOISE_WIDTH * size[-1]
    inside = (left * right).mean(dim=0)[..., size[-1] // 2].mean()
    at = torch.arange(-200, 201).double()
    kernel, moved = (torch.exp(-0.5 * ((at - d) / sigma) ** 2) for d in (0, 1))
    expected = float((kernel * moved).sum() / kernel.square().sum())
    assert float(inside) == pytest.approx(expected, abs=0.08)


def test_noise_lets_a_uniform_mask_vary():
    options = MaskOptions(noise=1.0)
    drawn = draw(options, 4, 1, seeded())["noise"][:, 0]
    p = mask_of(maps(4), MASKS["uniform"], options, {"noise": drawn})
    assert (mask_contrast(p) > 0.05).all()
    again = mask_of(maps(4), MASKS["uniform"], options, {"noise": drawn})
    assert torch.equal(p, again)
    assert torch.equal(mask_of(maps(4), MASKS["uniform"], options), torch.full_like(p, 0.5))


@pytest.mark.parametrize("name", MASKS)
def test_what_changes_nothing_gives_the_same_mask_bit_for_bit(name):
    still = MaskOptions(temperature=1.0, noise=0.0, scales=(), strength=1.0, anneal=0.7)
    same = (mask_of(maps(), MASKS[name], still), mask_of(maps(), MASKS[name], MaskOptions()))
    assert all(torch.equal(p, MASKS[name](maps())) for p in same)
    assert make_mask(MASKS[name], still) is MASKS[name]
    assert still.drawn == ()
    assert at_progress(still, 0.5) == still


@pytest.mark.parametrize("name", MASKS)
def test_a_high_temperature_flattens_and_a_low_one_sharpens(name):
    soft, plain, hard = (
        mask_contrast(mask_of(maps(), MASKS[name], MaskOptions(temperature=t, value=0.4)))
        for t in (3.0, 1.0, 0.3)
    )
    assert (soft <= plain).all()
    if name in ("deviation", "reference"):
        assert (hard > plain).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.2, 5.0])
def test_a_saturated_mask_has_a_finite_gradient(t, dtype):
    raw = torch.tensor([[-200.0, -30.0, 0.0, 30.0, 200.0]], dtype=dtype, requires_grad=True)
    p = mask_of(raw, torch.sigmoid, MaskOptions(temperature=t))
    (gradient,) = torch.autograd.grad(p.sum(), raw)
    assert gradient.isfinite().all()
    assert float(gradient[0, 2]) == pytest.approx(0.25 / t, rel=1e-5)
    assert (p[0].diff() >= 0).all()


@pytest.mark.parametrize("name", ["strength", "noise", "all"])
def test_the_loss_fades_to_the_mask_that_evaluation_sees(name):
    model, images = network("plain"), pictures(3)
    options = MaskOptions(**{**vars({**DRAWN, "all": ALL}[name]), "anneal": 0.5})
    loss = loss_of(model, options)
    seen = loss.compare(images).correlation
    assert loss.progress == 0
    loss(images)
    assert (loss.details.correlation - seen).abs().max() > 1e-6
    for loss.progress in (0.5, 1.0):
        loss(images)
        torch.testing.assert_close(loss.details.correlation, seen, rtol=0, atol=1e-12)
    expected = partial(mask_of, form=MASKS["deviation"], options=at_progress(options, 1.0))
    mask = loss.compare(images).mask
    raw = loss.compare(images).maps["guided_backprop"]
    torch.testing.assert_close(mask, expected(raw))
    alone = compare(model, images, {"6": model[6]}, loss.method, target=1)
    assert torch.equal(alone.correlation, seen)  # as a stopping rule measures it
    loss.progress = 1.2
    with pytest.raises(InputError, match="share of the training"):
        loss(images)


def test_fading_draws_the_same_numbers_whatever_is_left():
    loss = loss_of(network("plain"), MaskOptions(**{**vars(ALL), "anneal": 0.5}))
    states = []
    for loss.progress in (0.0, 0.3, 1.0):
        loss.generator.manual_seed(4)
        loss(pictures())
        states.append(loss.generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("seed", range(20))
def test_options_stay_valid_and_their_ranges_shrink_at_every_progress(seed):
    low, share, cold, ratio, noise, anneal = torch.rand(6, generator=seeded(seed)).tolist()
    before = MaskOptions(
        strength=(low, low + share * (1 - low)),
        temperature=(cold + 0.1, (cold + 0.1) * (1 + ratio)),
        noise=noise,
        scales=(1.0, 2.0, 3.0),
        anneal=anneal,
    )
    for step in range(11):
        after = at_progress(before, step / 10)
        assert after.strength_range[0] >= before.strength_range[0] - 1e-12
        assert after.strength_range[1] == before.strength_range[1]
        assert after.temperature_range[0] >= before.temperature_range[0] - 1e-12
        assert after.temperature_range[1] <= before.temperature_range[1] + 1e-12
        assert after.noise <= before.noise
        assert set(after.scales) <= set(before.scales)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"temperature": 0.0}, "mask temperature must be above 0"),
        ({"temperature": (2.0, 1.0)}, "mask temperature must be above 0"),
        ({"noise": -0.1}, "mask noise must be 0 or larger"),
        ({"noise": float("nan")}, "mask noise must be 0 or larger"),
        ({"scales": (1.0, -1.0)}, "mask scales must be deviations"),
        ({"anneal": 1.5}, "mask anneal must be between 0 and 1"),
        ({"smooth": 1.0, "scales": (1.0, 2.0)}, "take the place of smooth"),
    ],
)
def test_options_that_mean_nothing_are_input_errors(wrong, rule):
    with pytest.raises(InputError, match=rule):
        MaskOptions(**wrong)


@EVERY
def test_what_is_drawn_asks_for_its_generator_by_name(options):
    with pytest.raises(InputError, match=f"mask {options.drawn[0]} .* is drawn at random: give"):
        ConsistencyLoss(network("plain"), mask_options=options)
