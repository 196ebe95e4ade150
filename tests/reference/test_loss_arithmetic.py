"""Algorithm 1 written a second time: image by image, module hooks, NumPy for the statistics."""

import math

import numpy as np
import pytest
import torch
from tiny import network, pictures
from torch import nn

from atcon.consistency import PRESETS, ConsistencyLoss


class Hooked:
    """A network of module ReLUs with the hooks of the published code."""

    def __init__(self, model, layer):
        self.model, self.guide = model, False
        self.hooks = [layer.register_forward_hook(self.keep)]
        for module in model.modules():
            if isinstance(module, nn.ReLU | nn.Hardtanh):
                self.hooks.append(module.register_full_backward_hook(self.clip))

    def keep(self, _module, _inputs, output):
        self.features = output

    def clip(self, _module, grad_input, _grad_output):
        return (grad_input[0].clamp(min=0),) if self.guide else None

    def maps(self, image, chosen=None):
        """Give class, Grad-CAM and Guided Backpropagation of one image, as arrays."""
        image = image[None].clone().requires_grad_()
        logits = self.model(image)[0]
        chosen = int(logits.argmax()) if chosen is None else chosen
        (slopes,) = torch.autograd.grad(logits[chosen], self.features, retain_graph=True)
        features, slopes = self.features[0].detach().numpy(), slopes[0].numpy()
        cam = sum(slopes[k].mean() * features[k] for k in range(len(features)))
        self.guide = True
        (gradient,) = torch.autograd.grad(logits[chosen], image)
        self.guide = False
        return chosen, cam, np.abs(gradient[0].numpy()).sum(axis=0)

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def logistic(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def reference_p(a):
    return logistic(8 * (a - (a.mean() + a.std(ddof=1) / 2)))


def variance_p(a):
    return logistic((a - a.mean()) / a.var(ddof=1))


def deviation_p(a):
    return logistic((a - a.mean()) / a.std(ddof=1))


def squash(a):
    return logistic((a - a.mean()) / a.std(ddof=1))


def pearson(a, b):
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


ARITHMETIC = {
    "default": (reference_p, lambda a: a),
    "paper": (variance_p, lambda a: a),
    "reference": (reference_p, squash),
}


def loop_over_samples(model, layer, images, mask, transform):
    hooked = Hooked(model, layer)
    values, contrasts, chosen = [], [], []
    for image in images:
        label, first, guided = hooked.maps(image)
        p = mask(guided)
        _, second, _ = hooked.maps(torch.from_numpy(p) * image, label)
        values.append(pearson(transform(first), transform(second)))
        contrasts.append(p.std(ddof=1))
        chosen.append(label)
    hooked.remove()
    return values, contrasts, chosen


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["plain", "grouped"])
def test_preset_equals_a_loop_over_samples(preset, name):
    model, images = network(name, seed=5), pictures(4)
    mask, transform = ARITHMETIC[preset]
    loss = ConsistencyLoss(model, preset=preset)
    found = loss(images).item()
    layer = model.get_submodule(loss.layer_name)
    values, contrasts, chosen = loop_over_samples(model, layer, images, mask, transform)
    assert found == pytest.approx(-np.mean(values), abs=1e-10)
    np.testing.assert_allclose(loss.details.correlation, values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(loss.details.mask_contrast, contrasts, rtol=0, atol=1e-10)
    assert loss.details.classes.tolist() == chosen


def test_deviation_mask_equals_a_loop_over_samples():
    model, images = network("residual", seed=5), pictures(3)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    loss = ConsistencyLoss(model, "relu", mask="deviation")
    found = loss(images).item()
    values, *_ = loop_over_samples(model, model.relu, images, deviation_p, lambda a: a)
    assert found == pytest.approx(-np.mean(values), abs=1e-10)
