from contextlib import suppress

import pytest
import torch
from algorithm import CHOICES, Place, grad_cam, guided_backprop, loss_and_gradients
from condition import assert_same, condition
from finite_differences import slopes
from tiny import Head, network, pictures, settled
from torch import nn
from torch.nn import functional

from atcon import ConsistencyLoss, explain
from atcon.errors import InputError
from atcon.training.padding import PADDINGS, check_padding, padding_mode, set_padding

CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def convolution(axes, kernel=3, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KINDS[axes](4, 6, kernel, **options).double()


def noise(*shape, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=make)


def padded_by_hand(conv, x, amounts, mode):
    padded = functional.pad(x, amounts, mode="constant" if mode == "zeros" else mode)
    convolve = CONVOLVE[x.ndim - 2]
    return convolve(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


@pytest.mark.parametrize("mode", PADDINGS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_switched_convolution_is_one_of_the_padded_input(axes, mode):
    conv = convolution(axes, stride=2, padding=2, dilation=2, groups=2)
    x = noise(2, 4, *(7,) * axes)
    set_padding(conv, mode)
    expected = {"reference": "replicate" if axes == 3 else "reflect"}.get(mode, mode)
    torch.testing.assert_close(conv(x), padded_by_hand(conv, x, [2] * 2 * axes, expected))


def test_reflection_repeats_no_border_and_replication_does():
    conv = nn.Conv2d(1, 1, (1, 5), padding=(0, 2), bias=False)
    conv.weight.data = torch.tensor([1.0, 0, 0, 0, 0]).reshape(1, 1, 1, 5)
    row = torch.tensor([[[[1.0, 2, 3]]]])
    found = {}
    for mode in PADDINGS:
        set_padding(conv, mode)
        found[mode] = conv(row).flatten().tolist()
    assert found == {
        "zeros": [0, 0, 1],
        "reflect": [3, 2, 1],
        "replicate": [1, 1, 1],
        "circular": [2, 3, 1],
        "reference": [3, 2, 1],
    }


def test_uneven_kernels_and_paddings_keep_their_axes():
    conv = convolution(2, (5, 3), padding=(2, 1))
    x = noise(1, 4, 6, 9)
    set_padding(conv, "reflect")
    torch.testing.assert_close(conv(x), padded_by_hand(conv, x, [1, 1, 2, 2], "reflect"))


def test_same_padding_of_an_even_kernel_keeps_its_sides():
    conv = convolution(2, (4, 2), padding="same", dilation=(1, 3))
    x = noise(1, 4, 6, 9)
    set_padding(conv, "reflect")
    torch.testing.assert_close(conv(x), padded_by_hand(conv, x, [1, 2, 1, 2], "reflect"))
    assert conv(x).shape == (1, 6, 6, 9)


@pytest.mark.parametrize("padding", [2, (2, 2)])
def test_a_padding_changed_after_construction_counts(padding):
    conv = convolution(2)
    conv.padding, conv.dilation = padding, (2, 2)
    x = noise(1, 4, 6, 6)
    expected = padded_by_hand(conv, x, [2] * 4, "reflect")
    plain = conv(x)
    with padding_mode(conv, "reflect"):
        torch.testing.assert_close(conv(x), expected)
    assert torch.equal(conv(x), plain)


@pytest.mark.parametrize("padding", [0, "valid"])
def test_what_does_not_pad_stays(padding):
    model = nn.Sequential(convolution(2, padding=padding), nn.ConvTranspose2d(6, 2, 3).double())
    x = noise(1, 4, 6, 6)
    plain = model(x)
    assert set_padding(model, "reflect") == ()
    assert [module.padding_mode for module in model] == ["zeros", "zeros"]
    assert torch.equal(model(x), plain)


def test_the_names_of_what_pads_are_given():
    assert set_padding(network("plain"), "reflect") == ("4",)
    assert set_padding(network("residual"), "reflect") == ("stem", "conv")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("built", ["plain", "residual", "grouped"])
def test_a_borrowed_model_is_given_back_bitwise(built, fails):
    model, images = network(built), pictures()
    model.get_submodule(set_padding(model, "circular")[0]).train()
    before, modes, plain = condition(model), _paddings(model), model(images)
    with suppress(ZeroDivisionError), padding_mode(model, "reflect"):
        assert not torch.equal(model(images), plain)
        assert _paddings(model) != modes
        assert 1 / (not fails)
    assert_same(before, condition(model))
    assert _paddings(model) == modes
    assert torch.equal(model(images), plain)


def _paddings(model):
    kinds = tuple(KINDS.values())
    convs = [module for module in model.modules() if isinstance(module, kinds)]
    return [(c.padding_mode, c.padding, [*c._reversed_padding_repeated_twice]) for c in convs]


def test_blocks_can_be_nested():
    model, images = network("residual"), pictures()
    with padding_mode(model, "reflect"):
        once = model(images)
        with padding_mode(model, "replicate"):
            twice = model(images)
        assert torch.equal(model(images), once)
    assert not torch.equal(once, twice)


class Padded(nn.Conv2d):
    def forward(self, x):
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


def test_a_convolution_that_pads_by_itself_is_refused_and_nothing_changes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Padded(4, 4, 3))
    with pytest.raises(InputError, match=r"convolution '1' is a Padded, which pads by its own"):
        set_padding(model, "reflect")
    assert _paddings(model)[0][0] == "zeros"


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(InputError, match="no padding 'reflection': did you mean 'reflect'"):
        set_padding(network("plain"), "reflection")


SMALLEST = {"zeros": 1, "reflect": 3, "replicate": 1, "circular": 2, "reference": 3}


@pytest.mark.parametrize("mode", PADDINGS)
def test_a_border_larger_than_the_input_is_named_exactly_where_torch_fails(mode):
    model = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2, bias=False), nn.ReLU(), Head(4)).double()
    before = condition(model)
    with padding_mode(model, mode):
        for size in (1, 2, 3):
            images = noise(2, 3, 9, size)
            if size >= SMALLEST[mode]:
                check_padding(model, images)
                assert model(images).isfinite().all()
                continue
            with pytest.raises(InputError, match=rf"'0' pads by \(2, 2\).* only \(9, {size}\)"):
                check_padding(model, images)
            with pytest.raises(RuntimeError):
                model(images)
    assert_same(before, condition(model))


class Deep(nn.Module):
    """Every way to pad: strided and folded, depthwise, by "same", dilated, on a shortcut."""

    def __init__(self, axes):
        super().__init__()
        conv, norm = KINDS[axes], {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes]
        self.stem = nn.Sequential(
            conv(3, 4, 3, 2, padding=1, bias=False), norm(4), nn.ReLU(inplace=True)
        )
        self.depthwise = nn.Sequential(
            conv(4, 4, 3, padding=1, groups=4, bias=False), norm(4), nn.ReLU6(inplace=True)
        )
        self.same = nn.Sequential(conv(4, 5, (5, *(3,) * (axes - 1)), padding="same"), nn.ReLU())
        self.dilated = nn.Sequential(conv(5, 5, 3, padding=2, dilation=2, bias=False), norm(5))
        self.head = Head(5)

    def forward(self, x):
        x = self.stem(x)
        x = self.same(self.depthwise(x) + x)
        return self.head(torch.nn.functional.relu(self.dilated(x) + x))


def deep(axes):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = settled(Deep(axes)).double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
    return model


GRIDS = {2: (13, 12), 3: (8, 9, 10)}
CASES = [(2, "reflect"), (2, "replicate"), (2, "circular"), (3, "reference"), (3, "reflect")]


@pytest.mark.parametrize(("axes", "mode"), CASES)
def test_maps_of_a_switched_network_are_those_of_plain_autograd(axes, mode, monkeypatch):
    model, images = deep(axes), noise(2, 3, *GRIDS[axes], seed=1)
    cam_before = explain(model, images, "grad_cam", layer="dilated")
    with padding_mode(model, mode):
        cams = explain(model, images, "grad_cam", layer="dilated")
        guided = explain(model, images, "guided_backprop")
        for image, cam, fine in zip(images[:, None], cams, guided, strict=True):
            expected, top = grad_cam(model, image, lambda y: int(y.argmax()), Place("dilated"), ())
            torch.testing.assert_close(cam, expected.detach())
            slow = guided_backprop(monkeypatch, model, image, top)
            torch.testing.assert_close(fine, slow.detach())
    assert not torch.allclose(cams, cam_before)


@pytest.mark.parametrize(("axes", "mode"), CASES)
def test_the_loss_of_a_switched_network_has_the_gradients_of_plain_autograd(
    axes, mode, monkeypatch
):
    model, images = deep(axes), noise(2, 3, *GRIDS[axes], seed=1)
    names = ("attached", "squashed")
    with padding_mode(model, mode):
        expected = loss_and_gradients(monkeypatch, model, images, Place("dilated"), (), names)
        for choice in names:
            model.zero_grad()
            loss = ConsistencyLoss(model, "dilated", **CHOICES[choice])(images)
            loss.backward()
            value, gradients = expected[choice]
            assert float(loss.detach()) == pytest.approx(float(value), abs=1e-10)
            largest = max(float(g.abs().max()) for g in gradients.values())
            for name, parameter in model.named_parameters():
                found = 0 if parameter.grad is None else parameter.grad  # the head's bias has none
                error = float((found - gradients[name]).abs().max())
                assert error <= 1e-8 * largest, name


def test_gradients_of_a_switched_network_match_finite_differences():
    model, images = deep(2), pictures()
    with padding_mode(model, "reflect"):
        loss = ConsistencyLoss(
            model, "dilated", maps=("grad_cam", "gradient"), mask="deviation", detach_mask=False
        )
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(loss(images), parameters, materialize_grads=True)
        for by_gradients, difference in slopes(
            parameters, gradients, lambda: loss(images).detach(), step=1e-7
        ):
            assert by_gradients == pytest.approx(difference, rel=1e-5, abs=1e-8)
            assert abs(difference) > 1e-4
