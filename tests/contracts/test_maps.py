"""What every attention map promises, whatever it computes."""

import pytest
import torch
from tiny import CLASSES, NETWORKS, network, pictures
from torch import nn

from atcon.attention import ATTENTION
from atcon.errors import InputError

TABLE = pytest.mark.parametrize("name", ATTENTION)
NETWORK = pytest.mark.parametrize("built", NETWORKS)


@TABLE
@NETWORK
def test_a_batch_equals_its_images_one_by_one(name, built):
    model, images = network(built), pictures(3)
    together = ATTENTION[name](model, images)
    alone = torch.cat([ATTENTION[name](model, image[None]) for image in images])
    assert together.abs().max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


@TABLE
def test_a_map_depends_on_its_own_sample_only(name):
    model, images = network("plain").train(), pictures(3)
    before = ATTENTION[name](model, images, 1)
    images[1] = 5 * images[1].flip(-1) + 1
    after = ATTENTION[name](model, images, 1)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-10, atol=1e-12)
    assert (after[1] - before[1]).abs().max() > 1e-3


@TABLE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_type_and_the_device(name, dtype):
    maps = ATTENTION[name](network("plain", dtype=dtype), pictures(dtype=dtype))
    assert maps.dtype == dtype
    assert maps.device.type == "cpu"
    exact = ATTENTION[name](network("plain"), pictures())
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-5)


@TABLE
def test_half_precision_gives_maps_in_single_precision(name):
    maps = ATTENTION[name](
        network("grouped", dtype=torch.bfloat16), pictures(dtype=torch.bfloat16), 1
    )
    exact = ATTENTION[name](network("grouped"), pictures(), 1)
    assert maps.dtype == torch.float32
    assert (maps - exact).abs().max() < 0.2 * exact.abs().max()


@TABLE
def test_autocast_gives_nearly_the_same_map(name):
    model, images = network("grouped", dtype=torch.float32), pictures(dtype=torch.float32)
    exact = ATTENTION[name](model, images, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = ATTENTION[name](model, images, 1)
    assert (maps - exact).abs().max() < 0.2 * exact.abs().max()


@TABLE
def test_is_deterministic(name):
    model, images = network("plain").train(), pictures()
    assert torch.equal(ATTENTION[name](model, images), ATTENTION[name](model, images))


@TABLE
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_does_not_depend_on_the_callers_gradient_mode(name, mode):
    model, images = network("grouped"), pictures()
    expected = ATTENTION[name](model, images)
    with mode():
        found = ATTENTION[name](model, images)
        of_inference_images = ATTENTION[name](model, images + 0)
        differentiable = ATTENTION[name](model, images, create_graph=True)
    for maps in (found, of_inference_images, differentiable):
        assert torch.equal(maps, expected)
    assert not found.requires_grad
    gradients = torch.autograd.grad(
        differentiable.sum(), list(model.parameters()), allow_unused=True
    )
    assert any(gradient is not None and gradient.any() for gradient in gradients)


@TABLE
@NETWORK
def test_frozen_weights_give_the_same_map(name, built):
    model, images = network(built), pictures()
    expected = ATTENTION[name](model, images)
    assert torch.equal(ATTENTION[name](model.requires_grad_(requires_grad=False), images), expected)


@TABLE
def test_keeps_the_graph_of_images_that_have_one(name):
    model, source = network("plain"), pictures().requires_grad_()
    maps = ATTENTION[name](model, 2 * source, create_graph=True)
    assert torch.equal(maps, ATTENTION[name](model, 2 * source.detach()))
    (gradient,) = torch.autograd.grad(maps.sum(), source, allow_unused=True)
    if name == "grad_cam":  # a ReLU network's guided map is constant nearly everywhere
        assert gradient.any()


@TABLE
def test_without_a_graph_nothing_is_kept(name):
    maps = ATTENTION[name](network("plain"), pictures().requires_grad_())
    assert not maps.requires_grad


@TABLE
@pytest.mark.parametrize(
    "target",
    [
        torch.tensor([2, 0, 1]),
        lambda logits: torch.tensor([2, 0, 1]),
        torch.tensor([2, 0, 1]).int(),
    ],
    ids=["tensor", "callable", "int32"],
)
def test_explains_the_class_that_is_asked_for(name, target):
    model, images = network("plain"), pictures(3)
    maps = ATTENTION[name](model, images, target)
    for index, chosen in enumerate((2, 0, 1)):
        assert torch.equal(maps[index], ATTENTION[name](model, images, chosen)[index])


@TABLE
def test_explains_the_top_class_unless_asked(name):
    model, images = network("plain"), pictures(3)
    top = model(images).argmax(dim=1)
    assert torch.equal(ATTENTION[name](model, images), ATTENTION[name](model, images, top))


@TABLE
@pytest.mark.parametrize(
    "target",
    [
        CLASSES,
        -1,
        torch.tensor([0]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([True, False]),
        lambda _: "cat",
    ],
    ids=["too large", "negative", "one for two", "float", "bool", "text"],
)
def test_a_wrong_target_is_an_input_error(name, target):
    with pytest.raises(InputError, match="target"):
        ATTENTION[name](network("plain"), pictures(2), target)


@TABLE
def test_a_logit_that_does_not_depend_on_the_image_is_an_input_error(name):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            maps = self.conv(x).relu()
            return self.fc(torch.zeros_like(maps).mean(dim=(2, 3)))

    with pytest.raises(InputError, match="does not depend"):
        ATTENTION[name](Constant().double(), pictures())


@TABLE
def test_a_model_that_blocks_gradients_is_an_input_error(name):
    class Blocked(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network("plain")

        @torch.no_grad()
        def forward(self, x):
            return self.net(x)

    with pytest.raises(InputError, match="gradient"):
        ATTENTION[name](Blocked(), pictures())


@TABLE
def test_no_images_are_an_input_error(name):
    with pytest.raises(InputError, match="no images"):
        ATTENTION[name](network("plain"), pictures(2)[:0])


@TABLE
def test_an_output_without_logits_is_an_input_error(name):
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(x).relu()

    with pytest.raises(InputError, match="logits"):
        ATTENTION[name](Pixels().double(), pictures())


@TABLE
def test_signals_and_clips_have_maps_too(name):
    for axes, convolution in ((1, nn.Conv1d), (3, nn.Conv3d)):
        torch.manual_seed(0)
        model = nn.Sequential(
            convolution(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4**axes, 3)
        )
        grid = (6,) * axes
        maps = ATTENTION[name](model, torch.randn(2, 2, *grid))
        assert maps.shape == (2, *(grid if name == "guided_backprop" else (4,) * axes))
        assert maps.any()
