"""Guided Backpropagation of real networks against the rule in explicit formulas, in float64."""

import pytest
import torch
import torchvision
from slopes import guided_by_formulas
from torch import nn

from atcon.attention import trace
from atcon.attention.coverage import coverage
from atcon.attention.guided_backprop import guided_backprop

SLOW = pytest.mark.slow
NETWORKS = [
    ("resnet18", 64, {"relu": 17}),
    ("googlenet", 64, {"relu": 57}),
    ("densenet121", 64, {"relu": 121}),
    ("mobilenet_v2", 64, {"relu6": 35}),
    ("mobilenet_v3_small", 64, {"relu": 14, "hardswish": 19}),
    ("squeezenet1_1", 64, {"relu": 26}),
    ("convnext_tiny", 32, {"gelu": 18}),
    ("timm resnet18", 64, {"relu": 17}),
    ("timm mobilenetv3_small_100", 64, {"relu": 14, "hardswish": 19}),
    ("timm convnext_atto", 32, {"gelu": 12}),
    ("timm efficientnet_lite0", 64, {"relu6": 33}),
    pytest.param("inception_v3", 75, {"relu": 94}, marks=SLOW),
    pytest.param("mobilenet_v3_large", 64, {"relu": 19, "hardswish": 21}, marks=SLOW),
    pytest.param("vgg16_bn", 32, {"relu": 15}, marks=SLOW),
    pytest.param("timm resnet26d", 64, {"relu": 27}, marks=SLOW),
    pytest.param("timm efficientnet_b0", 64, {"silu": 49}, marks=SLOW),
    pytest.param("timm densenet121", 64, {"relu": 121}, marks=SLOW),
]


def build(name, size):
    """Random weights under which every branch counts, and statistics of the signal itself."""
    torch.manual_seed(0)
    if name.startswith("timm "):
        timm = pytest.importorskip("timm")
        model = timm.create_model(name.split()[1], num_classes=5, pretrained=False)
    else:
        plain = {"aux_logits": False, "init_weights": False}
        extra = plain if name in {"inception_v3", "googlenet"} else {}
        model = getattr(torchvision.models, name)(num_classes=5, **extra)
    model = model.double().train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.data.uniform_(0.5, 1.5)  # some are initialised with zero
    for key, parameter in model.named_parameters():
        if key.endswith(("layer_scale", "gamma")):
            parameter.data.fill_(0.5)
    if norms:
        with torch.no_grad():
            model(torch.randn(2, 3, size, size, dtype=torch.float64))
    for norm in norms:
        norm.running_var.clamp_(min=0.1)
    return model.eval()


@pytest.mark.parametrize(("name", "size", "activations"), NETWORKS)
def test_equals_the_rule_in_explicit_formulas(name, size, activations, monkeypatch):
    model = build(name, size)
    images, classes = torch.randn(1, 3, size, size, dtype=torch.float64), torch.tensor([2])
    theirs, calls = guided_by_formulas(monkeypatch, model, images, classes)
    ours = guided_backprop(model, images, classes)
    run = trace(model, images)
    assert run.rule.by_kind == activations
    assert calls.total() == sum(activations.values())
    assert theirs.max() > 0
    torch.testing.assert_close(ours / theirs.max(), theirs / theirs.max(), rtol=0, atol=1e-10)
    plain = run.gradients(classes, [run.images])[0].abs().sum(dim=1)
    assert (ours - plain).abs().max() > 0.1 * plain.max(), "the rule changes nothing here"


def test_gates_are_told_from_activations():
    found = coverage(build("mobilenet_v3_small", 64), torch.zeros(1, 3, 64, 64).double())
    assert found.gates == {"hardsigmoid": 9}
    assert found.unguided == found.hidden == {}
    assert found.guided == 33
