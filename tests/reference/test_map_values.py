"""The maps' values against captum, grad-cam and SciPy, in float64."""

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import (
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from pytorch_grad_cam import HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy import ndimage
from tiny import Head, network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import (
    cam,
    grad_cam,
    gradient,
    gradient_times_input,
    hires_cam,
    integrated_gradients,
    layer_cam,
    occlusion,
    rise,
    smooth_grad,
    trace,
)
from atcon.errors import InputError

CLASSES = torch.tensor([3, 7])


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    block = torchvision.models.resnet.BasicBlock
    model = torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=10).eval().double()
    model.maxpool = nn.AvgPool2d(2)  # where values tie, as in a constant baseline, max is ambiguous
    return model


@pytest.fixture
def images():
    make = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=make)


def assert_same(ours, theirs, atol=1e-10):
    theirs = torch.as_tensor(theirs).detach().double()
    scale = theirs.abs().max()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=atol)


def test_gradient_equals_captums_saliency(resnet, images):
    theirs = Saliency(resnet).attribute(images.clone().requires_grad_(), CLASSES)
    assert_same(gradient(resnet, images, CLASSES), theirs.sum(dim=1))


def test_gradient_times_input_equals_captum(resnet, images):
    theirs = InputXGradient(resnet).attribute(images.clone().requires_grad_(), CLASSES)
    assert_same(gradient_times_input(resnet, images, CLASSES), theirs.sum(dim=1))


@pytest.mark.parametrize("baseline", ["zero", "number", "image", "images"])
def test_integrated_gradients_equal_captums_trapezoid(resnet, images, baseline):
    images = images[..., :32, :32]
    start = {"zero": 0.0, "number": -0.3, "image": images[0].flip(1), "images": images.flip(3)}
    start = start[baseline]
    given = {} if baseline == "zero" else {"baseline": start}
    theirs = IntegratedGradients(resnet).attribute(
        images,
        start if isinstance(start, float) else start.expand_as(images),
        CLASSES,
        n_steps=5,
        method="riemann_trapezoid",
    )
    ours = integrated_gradients(resnet, images, CLASSES, steps=4, **given)
    # captum weighs 5 points by 1/5, not by 1/4, and in single precision
    assert_same(ours * 4 / 5, theirs.sum(dim=1), atol=1e-7)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_smooth_grad_equals_captums_noise_tunnel_on_the_same_noise(resnet, images, monkeypatch):
    samples, noise = 3, 0.2

    def our_noise(_self, repeats, inputs, _stdevs):
        assert repeats == samples
        make = torch.Generator().manual_seed(9)
        drawn = torch.stack([torch.randn(3, 64, 64, generator=make) for _ in range(repeats)])
        spans = [image.max() - image.min() for image in inputs[0]]
        return (
            torch.cat(
                [image + noise * span * drawn for image, span in zip(inputs[0], spans, strict=True)]
            ),
        )

    monkeypatch.setattr(NoiseTunnel, "_add_noise_to_inputs", our_noise)
    theirs = NoiseTunnel(Saliency(resnet)).attribute(
        images.clone(), nt_type="smoothgrad", nt_samples=samples, target=CLASSES, abs=False
    )
    ours = smooth_grad(
        resnet,
        images,
        CLASSES,
        samples=samples,
        noise=noise,
        generator=torch.Generator().manual_seed(9),
    )
    assert_same(ours, theirs.abs().sum(dim=1))


@pytest.mark.parametrize("layer", ["layer2", "layer4", "layer4.0.conv2"])
@pytest.mark.parametrize(
    ("ours", "library"), [(layer_cam, LayerCAM), (hires_cam, HiResCAM)], ids=["LayerCAM", "HiRes"]
)
def test_layer_maps_equal_the_grad_cam_package_before_its_scaling(
    resnet, images, ours, library, layer
):
    class Raw(library):
        def get_cam_image(self, *args):
            self.raw = super().get_cam_image(*args)
            return self.raw

    with Raw(resnet, [resnet.get_submodule(layer)]) as oracle:
        oracle(images, [ClassifierOutputTarget(int(c)) for c in CLASSES])
    found = ours(resnet, images, CLASSES, layer=layer)
    assert_same(found, oracle.raw)
    relu = ours(resnet, images, CLASSES, layer=layer, relu=True)
    assert_same(relu, np.maximum(oracle.raw, 0))


def test_hires_cam_equals_captums_gradient_times_activation(resnet, images):
    theirs = LayerGradientXActivation(resnet, resnet.layer3).attribute(images, CLASSES)
    assert_same(hires_cam(resnet, images, CLASSES, layer="layer3"), theirs.sum(dim=1))


def test_hires_cam_sums_to_the_logit_without_its_bias(resnet, images):
    logits = resnet(images).gather(1, CLASSES[:, None])[:, 0] - resnet.fc.bias[CLASSES]
    total = hires_cam(resnet, images, CLASSES, layer="layer4").sum(dim=(1, 2))
    torch.testing.assert_close(total, logits.detach())


HEADS = {
    "resnet18": ("layer4", "fc"),
    "mobilenet_v2": ("features", "classifier.1"),
    "googlenet": ("inception5b", "fc"),
}


@pytest.mark.parametrize("name", HEADS)
def test_cam_weighs_the_features_by_the_head_and_is_grad_cam_times_the_positions(name, images):
    torch.manual_seed(0)
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(num_classes=10, **extra).eval().double()
    layer, head = HEADS[name]
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    model(images)
    hook.remove()
    weight = model.get_submodule(head).weight[CLASSES]
    found = cam(model, images, CLASSES, layer=layer)
    assert_same(found, torch.einsum("bk,bkhw->bhw", weight, kept[0]))
    assert_same(found, grad_cam(model, images, CLASSES, layer=layer) * found[0].numel())
    torch.testing.assert_close(cam(model, images, CLASSES), found)  # the layer is found


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "densenet121"])
def test_cam_refuses_a_head_that_is_not_linear_in_the_pooled_layer(name, images):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=10).eval().double()
    with pytest.raises(InputError, match="no module's output is pooled for one; use grad_cam"):
        cam(model, images, CLASSES)


class Unusual(nn.Module):
    """Pools a part that the search for the last stage does not stop at."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.late = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU())
        self.head = Head(5)

    def forward(self, x):
        return self.head(self.late(self.conv(x).sin()))


def test_cam_names_the_layer_that_is_pooled():
    model = Unusual().double().eval()
    with pytest.raises(InputError, match="choose layer='late', whose output is pooled"):
        cam(model, pictures(), layer="conv")
    found = cam(model, pictures(), 1, layer="late")
    torch.testing.assert_close(found, 100 * grad_cam(model, pictures(), 1, layer="late"))


def test_cam_accepts_a_convolution_as_the_linear_layer():
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 4, 1)
    body = [nn.Conv2d(3, 5, 3), nn.ReLU()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), convolution, nn.Flatten()).double()
    found = cam(model, pictures(), 1, layer="1")
    linear = nn.Sequential(*body, head := Head(5)).double()
    head.fc.weight.data = convolution.weight.data.flatten(1)
    head.fc.bias.data = convolution.bias.data
    torch.testing.assert_close(found, cam(linear, pictures(), 1, layer="1"))


@pytest.fixture(scope="module")
def video():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv3d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(4 * 3 * 4 * 5, 8),
    ).double()


CLIPS = torch.randn(2, 3, 5, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_grad_cam_of_clips_pools_over_space_and_time_as_captum(video):
    theirs = LayerGradCam(video, video[2]).attribute(CLIPS, CLASSES)
    assert_same(grad_cam(video, CLIPS, CLASSES, layer="2"), theirs[:, 0])


def test_grad_cam_of_clips_can_be_pooled_per_frame(video):
    run = trace(video, CLIPS, video[2])
    features, gradients = run.layer(CLASSES)
    alpha = gradients.mean(dim=(3, 4), keepdim=True)
    found = grad_cam(video, CLIPS, CLASSES, layer="2", pool="frame")
    assert_same(found, (alpha * features).sum(dim=1))
    assert not torch.allclose(found, grad_cam(video, CLIPS, CLASSES, layer="2"))


def test_pooling_per_frame_needs_clips(video):
    with pytest.raises(InputError, match="needs clips"):
        grad_cam(network("plain"), pictures(), pool="frame")
    with pytest.raises(InputError, match="pool must be 'all' or 'frame'"):
        grad_cam(video, CLIPS, layer="2", pool="space")


def dense(*grid, channels=3):
    """A network of any input that sees every pixel differently."""
    torch.manual_seed(0)
    size = channels * int(np.prod(grid))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, 8)).double()


@pytest.mark.parametrize(
    ("grid", "window", "stride"),
    [
        ((20,), 3, 1),
        ((20,), 6, 4),
        ((12, 14), 4, 2),
        ((12, 14), (5, 3), (3, 3)),
        ((12, 14), 12, 12),
        ((5, 6, 7), (2, 3, 3), (1, 2, 2)),
    ],
)
@pytest.mark.parametrize("fill", ["constant", "value", "blur", "noise"])
def test_occlusion_equals_captum(grid, window, stride, fill):
    model = dense(*grid)
    x = torch.randn(2, 3, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options, baseline = {
        "constant": ({}, 0.0),
        "value": ({"value": 1.5}, 1.5),
        "blur": ({"fill": "blur", "blur": 0.1}, blurred(x, 0.1)),
        "noise": ({"fill": "noise", "generator": torch.Generator().manual_seed(4)}, noise_like(x)),
    }[fill]
    sides = (window,) * len(grid) if isinstance(window, int) else window
    steps = (stride,) * len(grid) if isinstance(stride, int) else stride
    theirs = Occlusion(model).attribute(
        x, (3, *sides), (3, *steps), baselines=baseline, target=CLASSES
    )
    ours = occlusion(model, x, CLASSES, window=window, stride=stride, **options)
    assert_same(ours, theirs[:, 0], atol=1e-6)  # captum's sums are in single precision


def blurred(x, share):
    """SciPy's Gaussian filter, its weights normalised where the image ends."""
    axes = range(2, x.ndim)
    sigma = [share * x.shape[axis] for axis in axes]
    options = {"axes": tuple(axes), "mode": "constant", "truncate": 40}
    inside = ndimage.gaussian_filter(np.ones(x.shape), sigma, **options)
    return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), sigma, **options) / inside)


def noise_like(x):
    """The noise of one image, with the mean and the deviation of every channel of each."""
    noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(4)).double()
    axes = tuple(range(2, x.ndim))
    deviation = x.std(dim=axes, keepdim=True, correction=0)
    return x.mean(dim=axes, keepdim=True) + deviation * noise


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "logit"])
@pytest.mark.parametrize("grid", [(17,), (12, 15), (4, 8, 9)])
def test_rise_equals_its_definition_mask_by_mask(grid, score):
    model, cells, keep, count = dense(*grid), 3, 0.4, 7
    x = torch.randn(2, 3, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    make = torch.Generator().manual_seed(2)
    coarse = torch.rand(count, *(cells,) * len(grid), generator=make) < keep
    shifts = torch.rand(count, len(grid), generator=make)
    side = [-(-size // cells) for size in grid]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    expected = torch.zeros(2, *grid, dtype=torch.float64)
    for drawn, shift in zip(coarse, shifts, strict=True):
        large = functional.interpolate(
            drawn[None, None].double(), size=[(cells + 1) * s for s in side], mode=mode
        )
        mask = large[0, 0]
        for axis, size in enumerate(grid):
            mask = mask.narrow(axis, int(shift[axis] * side[axis]), size)
        for index, chosen in enumerate(CLASSES.tolist()):
            logits = model(mask * x[index : index + 1])[0]
            value = {
                "softmax": logits.softmax(0),
                "sigmoid": logits.sigmoid(),
                "logit": logits,
            }[score][chosen]
            expected[index] += value.detach() * mask / (count * keep)
    ours = rise(
        model,
        x,
        CLASSES,
        masks=count,
        cells=cells,
        keep=keep,
        score=score,
        batch=5,
        generator=torch.Generator().manual_seed(2),
    )
    assert_same(ours, expected)
