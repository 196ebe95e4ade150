"""What every attention map promises, whatever it computes."""

import pytest
import torch
from maps import DIFFERENTIABLE, MAPS, ON_NETWORKS, applies, has_option, take
from tiny import CLASSES, Head, network, pictures
from torch import nn

from atcon.attention import ATTENTION
from atcon.errors import InputError

TABLE = pytest.mark.parametrize("name", MAPS)
GRADIENT_BASED = pytest.mark.parametrize("name", DIFFERENTIABLE)
BLACK_BOX = pytest.mark.parametrize("name", [n for n in MAPS if n not in DIFFERENTIABLE])
RANDOM = pytest.mark.parametrize("name", [n for n in MAPS if has_option(n, "generator")])
OF_A_LAYER = pytest.mark.parametrize(
    "name", [n for n in MAPS if ATTENTION[n].resolution == "layer"]
)
EVERYWHERE = pytest.mark.parametrize(("name", "built"), ON_NETWORKS)


@EVERYWHERE
def test_a_batch_equals_its_images_one_by_one(name, built):
    model, images = network(built), pictures()
    together = take(name, model, images)
    alone = torch.cat([take(name, model, image[None]) for image in images])
    assert together.abs().max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


@TABLE
def test_a_map_depends_on_its_own_sample_only(name):
    model, images = network("plain").train(), pictures(3)
    before = take(name, model, images, 1)
    images[1] = 5 * images[1].flip(-1) + 1
    after = take(name, model, images, 1)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-10, atol=1e-12)
    assert (after[1] - before[1]).abs().max() > 1e-3 * before[1].abs().max()


@TABLE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_type_and_the_device(name, dtype):
    maps = take(name, network("plain", dtype=dtype), pictures(dtype=dtype))
    assert maps.dtype == dtype
    assert maps.device.type == "cpu"
    exact = take(name, network("plain"), pictures())
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-5)


@TABLE
def test_the_memory_layout_of_the_images_does_not_matter(name):
    model, images = network("residual"), pictures()
    expected = take(name, model, images)
    for same in (
        images.contiguous(memory_format=torch.channels_last),
        images.mT.contiguous().mT,
        images.repeat(1, 1, 1, 2)[..., :12],
    ):
        torch.testing.assert_close(take(name, model, same), expected, rtol=1e-10, atol=1e-12)


@TABLE
def test_half_precision_gives_maps_in_single_precision(name):
    maps = take(name, network("grouped", dtype=torch.bfloat16), pictures(dtype=torch.bfloat16), 1)
    exact = take(name, network("grouped"), pictures(), 1)
    assert maps.dtype == torch.float32
    assert (maps - exact).abs().max() < 0.2 * exact.abs().max()


@TABLE
def test_autocast_gives_nearly_the_same_map(name):
    model, images = network("grouped", dtype=torch.float32), pictures(dtype=torch.float32)
    exact = take(name, model, images, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = take(name, model, images, 1)
    assert maps.dtype == torch.float32
    assert (maps - exact).abs().max() < 0.2 * exact.abs().max()


@TABLE
def test_is_deterministic(name):
    model, images = network("plain").train(), pictures()
    maps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        maps.append(take(name, model, images))
    assert torch.equal(*maps)


@RANDOM
def test_a_generator_decides_what_is_drawn(name):
    options = {"fill": "noise"} if name == "occlusion" else {}
    model, images = network("plain"), pictures()
    first, same, other = (
        take(name, model, images, 1, generator=torch.Generator().manual_seed(seed), **options)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other, rtol=1e-3)


@TABLE
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_does_not_depend_on_the_callers_gradient_mode(name, mode):
    model, images = network("grouped"), pictures()
    expected = take(name, model, images)
    with mode():
        found = take(name, model, images)
        of_inference_images = take(name, model, images + 0)
    for maps in (found, of_inference_images):
        assert torch.equal(maps, expected)
        assert not maps.requires_grad


@GRADIENT_BASED
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_is_differentiable_under_any_gradient_mode_of_the_caller(name, mode):
    model, images = network("grouped"), pictures()
    expected = take(name, model, images)
    with mode():
        maps = take(name, model, images + 0, create_graph=True)
    assert torch.equal(maps, expected)
    gradients = torch.autograd.grad(maps.sum(), list(model.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in gradients)


@TABLE
@pytest.mark.parametrize("built", ["inplace", "residual"])
def test_frozen_weights_give_the_same_map(name, built):
    model, images = network(built), pictures()
    expected = take(name, model, images)
    assert torch.equal(take(name, model.requires_grad_(requires_grad=False), images), expected)


@TABLE
def test_without_a_graph_nothing_is_kept(name):
    assert not take(name, network("plain"), pictures().requires_grad_()).requires_grad


@TABLE
def test_explains_the_class_that_is_asked_for(name):
    model, images, asked = network("plain"), pictures(3), torch.tensor([2, 0, 1])
    alone = torch.stack(
        [take(name, model, images, int(chosen))[index] for index, chosen in enumerate(asked)]
    )
    for target in (asked, lambda _: asked, asked.int(), nn.functional.one_hot(asked, CLASSES)):
        torch.testing.assert_close(take(name, model, images, target), alone, rtol=1e-12, atol=1e-14)


LINEAR = {"grad_cam", "gradient_times_input", "cam", "integrated_gradients", "hires_cam"}
LINEAR |= {"occlusion", "rise"}


@pytest.mark.parametrize("name", sorted(LINEAR & set(MAPS)))
def test_several_labels_at_once_are_the_sum_of_their_maps(name):
    model, images = network("residual"), pictures()
    labels = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]])
    each = torch.stack([take(name, model, images, chosen) for chosen in range(CLASSES)])
    expected = torch.einsum("bc,cb...->b...", labels.double(), each)
    found = take(name, model, images, labels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@TABLE
def test_explains_the_top_class_unless_asked(name):
    model, images = network("plain"), pictures(3)
    top = model(images).argmax(dim=1)
    assert torch.equal(take(name, model, images), take(name, model, images, top))


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
        take(name, network("plain"), pictures(2), target)


@TABLE
def test_an_unknown_option_is_an_input_error(name):
    with pytest.raises(InputError, match="no option 'colour'"):
        take(name, network("plain"), pictures(), colour="red")


class Constant(nn.Module):
    """Its logits are the same for every image."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        maps = self.conv(x).relu()
        return self.fc(torch.zeros_like(maps).mean(dim=(2, 3)))


@GRADIENT_BASED
def test_a_logit_that_does_not_depend_on_the_image_is_an_input_error(name):
    with pytest.raises(InputError, match="does not depend"):
        take(name, Constant().double(), pictures())


class Blocked(nn.Module):
    """Lets no gradient through."""

    def __init__(self):
        super().__init__()
        self.net = network("plain")

    @torch.no_grad()
    def forward(self, x):
        return self.net(x)


@GRADIENT_BASED
def test_a_model_that_blocks_gradients_is_an_input_error(name):
    with pytest.raises(InputError, match="gradient"):
        take(name, Blocked(), pictures())


@BLACK_BOX
def test_a_map_of_the_output_alone_explains_any_model(name):
    model, images = network("plain"), pictures()
    expected = take(name, model, images)
    assert torch.equal(take(name, Blocked(), images), expected)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(take(name, compiled, images), expected)
    assert take(name, Constant().double(), images).isfinite().all()


@BLACK_BOX
def test_a_map_of_the_output_alone_cannot_be_differentiated(name):
    with pytest.raises(InputError, match="cannot be differentiated"):
        take(name, network("plain"), pictures(), create_graph=True)


@BLACK_BOX
def test_a_map_of_the_output_alone_records_no_graph(name):
    model, images = network("plain"), pictures().requires_grad_()
    recorded = []
    hook = model.register_forward_hook(lambda _m, _i, out: recorded.append(out.requires_grad))
    take(name, model, images)
    hook.remove()
    assert len(recorded) > 1
    assert not any(recorded)


@TABLE
def test_no_images_are_an_input_error(name):
    with pytest.raises(InputError, match="no images"):
        take(name, network("plain"), pictures(2)[:0])


@TABLE
def test_an_output_without_logits_is_an_input_error(name):
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(x).relu()

    with pytest.raises(InputError, match="logits"):
        take(name, Pixels().double(), pictures())


@TABLE
@pytest.mark.parametrize(("axes", "channels"), [(1, 1), (1, 2), (2, 1), (2, 5), (3, 2)])
def test_signals_images_and_clips_of_any_number_of_channels_have_maps(name, axes, channels):
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(0)
    model = nn.Sequential(convolution(channels, 4, 3), nn.ReLU(), Head(4))
    grid = (6, 7, 8)[:axes]
    maps = take(name, model, torch.randn(2, channels, *grid))
    of_layer = ATTENTION[name].resolution == "layer"
    assert maps.shape == (2, *(size - 2 * of_layer for size in grid))
    assert maps.any()


def degenerate(case):
    """A model, images and a layer where sums, ranges or gradients vanish."""
    model, images, layer = network("plain", dtype=torch.float32), pictures(dtype=torch.float32), "6"
    if case == "constant images":
        images = torch.full_like(images, 0.3)
    elif case == "black images":
        images = torch.zeros_like(images)
    elif case == "zero weights":
        for parameter in model.parameters():
            parameter.data.zero_()
    elif case == "dead activations":
        model[5].bias.data.fill_(-1e4)
    elif case == "one position":
        model, layer = nn.Sequential(nn.Conv2d(3, 4, 12), nn.ReLU(), Head(4)), "1"
    return model, images, layer


@TABLE
@pytest.mark.parametrize(
    "case",
    ["constant images", "black images", "zero weights", "dead activations", "one position"],
)
def test_degenerate_input_gives_finite_maps_and_finite_gradients(name, case):
    model, images, layer = degenerate(case)
    of_layer = {"layer": layer} if ATTENTION[name].resolution == "layer" else {}
    differentiable = ATTENTION[name].differentiable
    maps = take(name, model, images, 1, create_graph=differentiable, **of_layer)
    assert maps.isfinite().all()
    if differentiable and maps.requires_grad:
        gradients = torch.autograd.grad(
            maps.sum(), list(model.parameters()), materialize_grads=True, allow_unused=True
        )
        assert all(gradient.isfinite().all() for gradient in gradients)


@OF_A_LAYER
def test_several_layers_at_once_equal_one_by_one(name):
    model, images = network("plain"), pictures()
    layers = ["6"] if name == "cam" else ["2", model[5], "6"]
    together = take(name, model, images, 1, layer=layers)
    assert len(together) == len(layers)
    for maps, layer in zip(together, layers, strict=True):
        alone = take(name, model, images, 1, layer=layer)
        torch.testing.assert_close(maps, alone, rtol=1e-10, atol=1e-12)  # other folds round apart


@pytest.mark.parametrize("name", [n for n in MAPS if ATTENTION[n].resolution == "input"])
def test_a_map_of_the_input_takes_no_layer(name):
    with pytest.raises(InputError, match="takes no layer"):
        take(name, network("plain"), pictures(), layer="6")


def test_a_network_that_a_map_cannot_explain_is_an_input_error():
    for name in MAPS:
        for built in ("functional", "preactivation"):
            if not applies(name, built):
                with pytest.raises(InputError, match="CAM needs average pooling"):
                    take(name, network(built), pictures())
