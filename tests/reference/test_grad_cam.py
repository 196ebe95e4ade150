import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tiny import network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import grad_cam

LAYERS = {"resnet18": "layer4", "mobilenet_v2": "features.18", "densenet121": "features"}


@pytest.fixture(scope="module", params=LAYERS)
def case(request):
    torch.manual_seed(0)
    model = getattr(torchvision.models, request.param)(num_classes=10).eval()
    layer = model.get_submodule(LAYERS[request.param])
    return model, layer, torch.randn(2, 3, 96, 96), torch.tensor([3, 7])


def assert_same(ours, theirs):
    scale = theirs.abs().amax()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


def test_equals_captum(case):
    model, layer, images, classes = case
    if isinstance(model, torchvision.models.DenseNet):
        model.forward = lambda x: _densenet_without_overwriting(model, x)
    theirs = LayerGradCam(model, layer).attribute(images, classes, relu_attributions=False)
    model.__dict__.pop("forward", None)
    assert_same(grad_cam(model, images, classes, layer=layer), theirs[:, 0].detach())


def test_equals_pytorch_grad_cam_after_its_relu_scaling_and_resizing(case):
    model, layer, images, classes = case
    if isinstance(model, torchvision.models.DenseNet):
        model.forward = lambda x: _densenet_without_overwriting(model, x)
    with GradCAM(model, [layer]) as oracle:
        theirs = oracle(images, [ClassifierOutputTarget(int(c)) for c in classes])
    model.__dict__.pop("forward", None)
    ours = grad_cam(model, images, classes, layer=layer, relu=True)
    assert (ours > 0).any()
    resized = functional.interpolate(
        _rescaled(ours)[:, None], size=images.shape[2:], mode="bilinear"
    )[:, 0]
    assert_same(_rescaled(resized), torch.from_numpy(theirs))


def _rescaled(maps):
    """The library's rescaling to [0, 1], with the constant that keeps it from dividing by zero."""
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    return maps / (1e-7 + maps.amax(dim=(1, 2), keepdim=True))


def _densenet_without_overwriting(model, x):
    """What the oracles need: torchvision overwrites `features` by an in-place ReLU."""
    features = functional.relu(model.features(x))
    return model.classifier(features.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_with_average_pooling_and_a_linear_head_it_is_cam_divided_by_the_positions(name):
    model, images, classes = network(name), pictures(3), torch.tensor([0, 3, 1])
    layer = "6" if name == "plain" else "relu"
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _m, _i, o: kept.append(o))
    model(images)
    hook.remove()
    features = kept[-1]
    head = model[-1] if isinstance(model, nn.Sequential) else model.head
    cam = torch.einsum("bk,bkhw->bhw", head.fc.weight[classes], features)
    ours = grad_cam(model, images, classes, layer=layer)
    torch.testing.assert_close(ours, cam / features[0, 0].numel(), rtol=1e-12, atol=1e-14)


def test_the_relu_option_keeps_the_positive_evidence_only():
    model, images = network("functional"), pictures(4)
    signed = grad_cam(model, images, layer="last")
    assert (signed < 0).any()
    assert torch.equal(grad_cam(model, images, layer="last", relu=True), signed.clamp(min=0))
