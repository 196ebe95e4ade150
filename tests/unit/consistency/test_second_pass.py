"""What the second pass may see, and who judges it; masks that are drawn (section 6.1)."""

import copy
import math

import pytest
import torch
from finite_differences import slopes
from tiny import network, pictures
from torch.nn import functional

from atcon.consistency import ConsistencyLoss, MaskOptions, at_progress, divergence, update_teacher
from atcon.consistency.stochastic import draw, mask_of, with_logit
from atcon.errors import InputError

EVERYTHING = MaskOptions(
    strength=(0.4, 1.0), temperature=(0.5, 2.0), noise=0.7, scales=(0.0, 1.0, 2.0)
)


def seeded():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize(
    "options",
    [
        {"mask_options": MaskOptions(strength=(0.4, 1.0), temperature=(0.5, 2.0), noise=0.7)},
        {"teacher": True, "mirror": True, "logit_weight": 0.5},
    ],
    ids=["drawn", "taught"],
)
def test_gradient_matches_finite_differences(options):
    """Where nothing is a constant of the network itself, so that differences see the gradient."""
    model, images, options = network("plain"), pictures(3), dict(options)
    if options.pop("teacher", False):
        options["teacher"] = network("plain", seed=9).requires_grad_(requires_grad=False)

    def value():
        loss = ConsistencyLoss(
            model, mask="deviation", detach_mask=False, generator=seeded(), **options
        )
        return loss(images)

    value().backward()
    weights = [w for w in model.parameters() if w.grad is not None]
    gradients = [w.grad.clone() for w in weights]
    for slope, change in slopes(weights, gradients, lambda: value().detach()):
        assert slope == pytest.approx(change, rel=1e-5, abs=1e-8)


def test_mirrored_images_of_a_network_blind_to_mirrors_give_the_plain_loss():
    model, images = network("plain"), pictures(2)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(-1)) / 2
            module.stride = (1, 1)
    plain = ConsistencyLoss(model, mask="deviation")(images)
    mirrored = ConsistencyLoss(model, mask="deviation", mirror=True)(images)
    assert mirrored.item() == pytest.approx(plain.item(), abs=1e-10)
    fresh = network("plain")
    apart = [
        ConsistencyLoss(fresh, mask="deviation", mirror=m)(images).item() for m in (False, True)
    ]
    assert apart[0] != pytest.approx(apart[1], abs=1e-6)


def test_a_teacher_that_is_the_model_gives_the_value_of_the_plain_loss():
    model, images = network("residual"), pictures(3)
    plain = ConsistencyLoss(model, mask="deviation", detach_mask=True)(images)
    loss = ConsistencyLoss(model, mask="deviation", teacher=copy.deepcopy(model))
    assert loss(images).item() == pytest.approx(plain.item(), abs=1e-12)
    names = {name for name, _ in loss.named_parameters()}
    assert names == {f"model.{name}" for name, _ in model.named_parameters()}


def test_a_teacher_gets_no_gradient_and_is_left_as_it_was():
    model, teacher = network("plain"), network("plain")
    before = copy.deepcopy(teacher.state_dict())
    ConsistencyLoss(model, teacher=teacher)(pictures(2)).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.training == network("plain").training


def test_the_predictions_agree_where_nothing_is_masked():
    model, images = network("plain"), pictures(2)
    options = MaskOptions(value=1.0)
    loss = ConsistencyLoss(
        model, mask="uniform", mask_options=options, logit_weight=1.0, multi_label=True
    )
    assert loss(images).item() == pytest.approx(-1, abs=1e-12)
    assert loss.details.logit_disagreement.abs().max() < 1e-12


def test_divergence_is_that_of_torch():
    one, two = torch.randn(2, 5, 4, dtype=torch.float64, generator=seeded())
    q, p = one.sigmoid(), two.sigmoid()
    entropy = functional.binary_cross_entropy(q, q, reduction="none")
    expected = (functional.binary_cross_entropy(p, q, reduction="none") - entropy).mean(dim=1)
    torch.testing.assert_close(divergence(one, two, multi_label=True), expected)
    expected = functional.kl_div(
        two.log_softmax(1), one.log_softmax(1), log_target=True, reduction="none"
    ).sum(dim=1)
    torch.testing.assert_close(divergence(one, two, multi_label=False), expected)


@pytest.mark.parametrize("extra", [{"mirror": True}, {"logit_weight": 1.0}])
def test_without_a_masked_pass_there_is_nothing_to_mirror_or_to_predict(extra):
    with pytest.raises(InputError, match="choose matching 'mask'"):
        ConsistencyLoss(network("plain"), matching="pool", **extra)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_a_teacher_follows_by_its_decay_and_takes_the_buffers(decay):
    model, teacher = network("plain"), network("plain")
    for weight in model.parameters():
        weight.data.add_(1.0)
    model[1].running_mean.add_(2.0)
    old = {name: weight.detach().clone() for name, weight in teacher.named_parameters()}
    update_teacher(teacher, model, decay)
    for name, weight in teacher.named_parameters():
        expected = decay * old[name] + (1 - decay) * dict(model.named_parameters())[name]
        torch.testing.assert_close(weight, expected)
    assert torch.equal(teacher[1].running_mean, model[1].running_mean)


def test_what_is_drawn_fades_with_the_progress():
    options = MaskOptions(
        strength=(0.2, 0.8), temperature=(0.25, 4.0), noise=1.0, scales=(1.0, 2.0, 3.0), anneal=0.5
    )
    assert at_progress(options, 0.0) == options
    half = at_progress(options, 0.25)
    assert half.strength == pytest.approx((0.5, 0.8))
    assert half.temperature == pytest.approx((0.5, 2.0))
    assert half.noise == pytest.approx(0.5)
    assert half.scales == (1.0, 2.0)
    for progress in (0.5, 1.0):
        end = at_progress(options, progress)
        assert (end.strength_range, end.temperature_range) == ((0.8, 0.8), (1.0, 1.0))
        assert (end.noise, end.scales, end.random) == (0, (1.0,), False)
    assert at_progress(MaskOptions(noise=1.0), 1.0).noise == 1.0
    with pytest.raises(InputError, match="progress"):
        at_progress(options, 1.5)


def test_temperature_divides_the_logit():
    p = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64)
    logit = torch.log(p / (1 - p))
    found = with_logit(p, torch.tensor([2.0], dtype=torch.float64))
    torch.testing.assert_close(found, torch.sigmoid(logit / 2))


def test_noise_has_its_deviation_in_the_logit():
    options, count = MaskOptions(noise=0.6), 400
    drawn = {"noise": draw(options, count, 1, seeded())["noise"][:, 0]}
    maps = torch.zeros(count, 32, 32, dtype=torch.float64)
    p = mask_of(maps, lambda m: torch.full_like(m, 0.5), options, drawn)
    noise = torch.logit(p)
    assert float(noise.std(dim=0).mean()) == pytest.approx(0.6, rel=0.05)
    near = (noise[:, 16, 16] * noise[:, 16, 17]).mean() / 0.36
    assert near > 0.8  # smooth, not white


def test_an_image_draws_the_same_whatever_comes_after_it():
    few, many = (draw(EVERYTHING, count, 2, seeded()) for count in (2, 5))
    assert set(few) == {"strength", "temperature", "scales", "noise"}
    assert all(torch.equal(few[kind], many[kind][:2]) for kind in few)


def test_micro_batches_have_the_loss_and_gradients_of_the_batch():
    results = []
    for size in (None, 2):
        model = network("plain")
        loss = ConsistencyLoss(
            model, mask="deviation", mask_options=EVERYTHING, mirror=True, logit_weight=0.5,
            generator=seeded(), micro_batch=size,
        )  # fmt: skip
        value = loss(pictures(5))
        value.backward()
        gradients = [w.grad for w in model.parameters() if w.grad is not None]
        results.append((value.item(), torch.cat([g.flatten() for g in gradients])))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-11, rtol=1e-9)


def test_defaults_change_no_mask():
    maps = torch.rand(3, 9, 9, dtype=torch.float64, generator=seeded())
    assert torch.equal(mask_of(maps, torch.sigmoid, MaskOptions()), torch.sigmoid(maps))
    assert math.isclose(float(mask_of(maps, torch.sigmoid, MaskOptions(floor=1.0)).min()), 1.0)
