"""What every attention map promises, on transformers."""

import copy

import pytest
import torch
from finite_differences import slopes
from maps import take
from tiny import pictures
from tiny_transformers import GLOBAL, TRANSFORMERS, transformer

from atcon.attention import ATTENTION, find_layer
from atcon.errors import InputError

EXCEPT_CAM = [name for name in ATTENTION if name != "cam"]
ROLL_OUTS = [name for name in ATTENTION if ATTENTION[name].resolution == "tokens"]
EVERYWHERE_TAKEN = ("grad_cam", "guided_backprop", "gradient", *ROLL_OUTS)
PLACES = [(name, "vit") for name in EXCEPT_CAM]
PLACES += [
    (name, built)
    for name in EVERYWHERE_TAKEN
    for built in TRANSFORMERS
    if built in GLOBAL or name not in ROLL_OUTS
    if built != "vit" and (built, name) != ("registers", "guided_backprop")  # it has no activation
]
EVERYWHERE = pytest.mark.parametrize(("name", "built"), PLACES)
TABLE = pytest.mark.parametrize("name", EXCEPT_CAM)
GRADIENT_BASED = pytest.mark.parametrize(
    ("name", "built"), [(name, built) for name, built in PLACES if ATTENTION[name].differentiable]
)


def photos(count=2, seed=1, dtype=torch.float64):
    return pictures(count, 32, seed, dtype)


@EVERYWHERE
def test_a_batch_equals_its_images_one_by_one(name, built):
    model, images = transformer(built), photos(3)
    together = take(name, model, images, 1)
    alone = torch.cat([take(name, model, image[None], 1) for image in images])
    assert together.std(dim=tuple(range(1, together.ndim))).min() > 0
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@EVERYWHERE
def test_a_map_depends_on_its_own_sample_only(name, built):
    model, images = transformer(built).train(), photos(3)
    before = take(name, model, images, 1)
    images[1] = 2 * images[1].flip(-1) + 1
    after = take(name, model, images, 1)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-9, atol=1e-12)
    assert (after[1] - before[1]).abs().max() > 1e-3 * before[1].abs().max()


@TABLE
def test_keeps_the_type(name):
    exact = take(name, transformer("vit"), photos(), 1)
    maps = take(name, transformer("vit", dtype=torch.float32), photos(dtype=torch.float32), 1)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(
        maps.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max())
    )


@TABLE
def test_half_precision_gives_nearly_the_same_map_in_single_precision(name):
    model, images = transformer("vit", dtype=torch.float32), photos(dtype=torch.float32)
    exact = take(name, model, images, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = take(name, model, images, 1)
    halved = take(name, model.bfloat16(), images.bfloat16(), 1)
    for found in (maps, halved):
        assert found.dtype == torch.float32
        assert (found - exact).abs().max() < 0.2 * exact.abs().max()


@EVERYWHERE
def test_does_not_depend_on_the_callers_gradient_mode_or_on_frozen_weights(name, built):
    model, images = transformer(built), photos()
    expected = take(name, model, images)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = take(name, model, images)
        assert torch.equal(found, expected)
        assert not found.requires_grad
    frozen = take(name, model.requires_grad_(requires_grad=False), images)
    torch.testing.assert_close(frozen, expected, rtol=1e-9, atol=1e-12)


@EVERYWHERE
def test_leaves_the_model_as_it_found_it(name, built):
    model = transformer(built).train()
    model.eval().patches.train() if hasattr(model, "patches") else model.train()
    before = copy.deepcopy(model)
    take(name, model, photos())
    for (_, was), (_, now) in zip(before.named_modules(), model.named_modules(), strict=True):
        assert was.training == now.training
        assert len(was._forward_hooks) == len(now._forward_hooks)
        assert len(was._forward_pre_hooks) == len(now._forward_pre_hooks)
    for was, now in zip(before.parameters(), model.parameters(), strict=True):
        assert torch.equal(was, now)
        assert now.grad is None


@pytest.mark.parametrize("built", TRANSFORMERS)
def test_tracing_leaves_the_logits_as_they_are(built):
    model, images = transformer(built), photos()
    plain = model(images)
    seen = []
    take("grad_cam", model, images, lambda logits: seen.append(logits) or logits.argmax(dim=1))
    torch.testing.assert_close(seen[0], plain["logits"] if built == "registers" else plain)


@GRADIENT_BASED
def test_gradient_of_the_weights_matches_finite_differences(name, built):
    model, images = transformer(built), photos()
    layer = {"layer": find_layer(model, images)} if ATTENTION[name].resolution == "layer" else {}

    def value(**options):
        maps = take(name, model, images, torch.tensor([1, 2]), **layer, **options)
        make = torch.Generator().manual_seed(0)
        return (maps * torch.randn(maps.shape, generator=make, dtype=maps.dtype)).sum()

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(value(create_graph=True), parameters, materialize_grads=True)
    assert sum(bool(gradient.any()) for gradient in gradients) > 5
    scale = max(float(gradient.norm()) for gradient in gradients)
    # a short step: SmoothGrad has the largest of the channels, which may be another one at its ends
    for found, expected in slopes(parameters, gradients, value, step=1e-7):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6 * scale + 2e-9)


@pytest.mark.parametrize("name", ROLL_OUTS)
def test_windows_and_convolutions_have_no_roll_out(name):
    with pytest.raises(InputError, match=r"within windows.*grad_cam"):
        take(name, transformer("swin"), photos())
    with pytest.raises(InputError, match=r"no attention weights.*grad_cam"):
        take(name, torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), Pool()).double(), photos())


class Pool(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize("name", ROLL_OUTS)
def test_a_roll_out_takes_no_layer(name):
    with pytest.raises(InputError, match="takes no layer"):
        take(name, transformer("vit"), photos(), layer="encoder.ln")


def test_the_class_changes_the_gradient_roll_out_only():
    model, images = transformer("vit"), photos()
    plain, weighted = (
        [take(name, model, images, chosen) for chosen in (0, 1)]
        for name in ("attention_rollout", "gradient_rollout")
    )
    assert torch.equal(*plain)
    assert (weighted[0] - weighted[1]).abs().max() > 0.1 * weighted[0].abs().max()


@pytest.mark.parametrize("name", EXCEPT_CAM)
def test_a_new_classifier_of_zeros_gives_finite_maps(name):
    model = transformer("vit")
    torch.nn.init.zeros_(model.heads[0].weight)
    maps = take(name, model, photos(), 1)
    assert maps.isfinite().all()
    trained = take("attention_rollout", transformer("vit"), photos(), 1)
    if name == "attention_rollout":
        torch.testing.assert_close(maps, trained)
