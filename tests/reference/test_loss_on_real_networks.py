"""The loss and every gradient on real networks, against Algorithm 1 written down a second time."""

from functools import partial

import pytest
import torch
import torchvision
from algorithm import CHOICES, Place, loss_and_gradients
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import video

from atcon import ConsistencyLoss

SLOW = pytest.mark.slow
CLIP = (4, 32, 32)
RELATIVE = 1e-8


def of_torchvision(name, **options):
    return torchvision.models.get_model(name, num_classes=5, **options)


def of_timm(name, **options):
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=5, pretrained=False, **options)


def of_hugging_face():
    transformers = pytest.importorskip("transformers")
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [2, 1, 1, 1]}
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(**shape, layer_type="bottleneck", num_labels=5)
    )


def standardised():
    timm = pytest.importorskip("timm")
    return timm.models.resnetv2.ResNetV2(
        (1, 1, 1, 1),
        (32, 64, 64, 64),
        num_classes=5,
        stem_chs=16,
        conv_layer=timm.layers.StdConv2d,
        norm_layer=partial(timm.layers.GroupNormAct, num_groups=8),
    )


def vit():
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5)


def maxvit():
    return torchvision.models.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.0, num_classes=5)


INCEPTION = {"init_weights": True}
NETWORKS = {
    "shufflenet_v2_x0_5": ((64, 64), Place("conv5"), {}),
    "squeezenet1_1": ((64, 64), Place("features"), {}),
    "vit": ((32, 32), Place("encoder.layers.encoder_layer_2.ln_1", 1), {"make": vit}),
    "hugging face resnet": (
        (64, 64),
        Place("resnet.encoder.stages.3"),
        {"make": of_hugging_face},
    ),
}
LARGER = {
    "resnet18": ((64, 64), Place("layer4"), {}),
    "resnet50": ((64, 64), Place("layer4"), {}),
    "resnext50_32x4d": ((64, 64), Place("layer4.2.conv3"), {}),
    "densenet121": ((64, 64), Place("features"), {}),
    "googlenet": ((64, 64), Place("inception5b"), INCEPTION),
    "inception_v3": ((107, 107), Place("Mixed_7c"), INCEPTION),
    "mobilenet_v2": ((64, 64), Place("features"), {}),
    "mobilenet_v3_small": ((64, 64), Place("features"), {}),
    "mnasnet0_5": ((64, 64), Place("layers"), {}),
    "efficientnet_b0": ((64, 64), Place("features"), {}),
    "regnet_y_400mf": ((64, 64), Place("trunk_output"), {}),
    "convnext_tiny": ((32, 32), Place("features.5"), {}),
    "swin_t": ((64, 64), Place("features", "last"), {}),
    "maxvit": ((64, 64), Place("blocks.1"), {"make": maxvit}),
    "mc3_18": (CLIP, Place("layer3"), {"make": partial(video.mc3_18, num_classes=5)}),
    "r2plus1d_18": (CLIP, Place("layer3"), {"make": partial(video.r2plus1d_18, num_classes=5)}),
    "timm efficientnet_lite0": ((64, 64), Place("blocks"), {}),
    "timm convnext_atto": ((64, 64), Place("stages"), {}),
    "timm vit_tiny_patch16_224": ((64, 64), Place("blocks.1", 1), {"img_size": 64, "depth": 3}),
    "standardised weights": ((64, 64), Place("stages"), {"make": standardised}),
    "timm nf_resnet26": ((64, 64), Place("stages"), {}),
}
CELLS = {"vit": (4, 4), "timm vit_tiny_patch16_224": (4, 4)}


def build(name, size, make=None, **options):
    """Draw weights under which every branch counts, and statistics of the signal itself."""
    torch.manual_seed(0)
    if make is not None:
        model = make()
    elif name.startswith("timm "):
        model = of_timm(name.split()[1], **options)
    else:
        model = of_torchvision(name, **options)
    model = model.double().eval()
    for key, parameter in model.named_parameters():
        if key.endswith(("layer_scale", "gamma")):
            parameter.data.fill_(0.5)
        elif parameter.ndim == 1 and "bias" in key:
            parameter.data.normal_(0, 0.1)
        elif parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5)
        elif not parameter.any():
            parameter.data.normal_(0, parameter.shape[-1] ** -0.5)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(torch.randn(4, 3, *size, dtype=torch.float64))
    for norm in norms:
        norm.running_var.clamp_(min=0.05 * float(norm.running_var.mean()))
    return model.eval()


def assert_equals_algorithm_1(name, size, place, options, monkeypatch, *, names=tuple(CHOICES)):
    model = build(name, size, **options)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    cells = CELLS.get(name, ())
    expected = loss_and_gradients(monkeypatch, model, images, place, cells, names)
    model.train()  # the loss puts it in evaluation mode itself
    for choice in names:
        model.zero_grad()
        loss = ConsistencyLoss(model, place.layer, **CHOICES[choice])(images)
        loss.backward()
        value, gradients = expected[choice]
        assert float(loss.detach()) == pytest.approx(float(value), abs=1e-10), choice
        assert_gradients(model, gradients)


def assert_gradients(model: nn.Module, expected):
    """Compare each gradient with its own size; one that is zero, with the size of them all."""
    total = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    assert total > 1e-3, "nothing to compare"
    for name, parameter in model.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        size = expected[name].norm()
        size = size if size > 1e-10 * total else total
        assert (found - expected[name]).norm() <= RELATIVE * size, name


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradients_equal_algorithm_1(name, monkeypatch):
    assert_equals_algorithm_1(name, *NETWORKS[name], monkeypatch)


@SLOW
@pytest.mark.parametrize("name", LARGER)
def test_loss_and_gradients_of_larger_networks_equal_algorithm_1(name, monkeypatch):
    names = ("attached", "upsampled")
    assert_equals_algorithm_1(name, *LARGER[name], monkeypatch, names=names)
