"""Algorithm 1 written down a second time: one image at a time, three forward passes, torch's own.

Nothing here touches the library's code. Activations obey the guided rule because functions of
`torch.nn.functional` are replaced by formulas, and nothing is folded, shared or batched.
"""

from typing import NamedTuple

import torch
from slopes import Rule, formulas
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Place(NamedTuple):
    """A layer's name, and how its output holds a map: "first", "last", or a number of tokens."""

    layer: str
    channels: str | int = "first"


def channels_first(output, place, cells):
    """Rearrange a layer's output to `[1, channel, *cells]`."""
    if place.channels == "first":
        return output
    if place.channels == "last":
        return output.movedim(-1, 1)
    return output[:, place.channels :].transpose(1, 2).reshape(1, -1, *cells)


def logits_of(output):
    output = getattr(output, "logits", output)
    return output[0] if isinstance(output, tuple) else output


def grad_cam(model, image, choose, place, cells):
    """Give Grad-CAM of a fresh forward pass (Eq. 3), and the class."""
    kept = []

    def keep(_module, _inputs, output):
        kept.append(output)
        return output.clone()

    hook = model.get_submodule(place.layer).register_forward_hook(keep)
    logits = logits_of(model(image))
    hook.remove()
    chosen = choose(logits)
    (gradient,) = torch.autograd.grad(logits[0, chosen], kept[-1], create_graph=True)
    features, gradient = (channels_first(x, place, cells)[0] for x in (kept[-1], gradient))
    alpha = gradient.flatten(1).mean(dim=1)
    return sum(a * f for a, f in zip(alpha, features, strict=True)), chosen


def guided_backprop(monkeypatch, model, image, chosen):
    """Give Guided Backpropagation of a fresh forward pass (Eq. 5)."""
    image = image.clone().requires_grad_()
    with formulas(monkeypatch):
        logits = logits_of(model(image))
    (gradient,) = torch.autograd.grad(logits[0, chosen], image, create_graph=True)
    return gradient[0].abs().sum(dim=0)


def pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def standardised(a):
    return (a - a.mean()) / a.std()


def deviation(a):
    return torch.sigmoid(standardised(a))


def reference(a):
    return torch.sigmoid(8 * (a - (a.mean() + a.std() / 2)))


def ssim(a, b):
    """SSIM of two maps rescaled to [0, 1]: windows of 11, or half of an axis, sigma 1.5."""
    a, b = ((x - x.min()) / (x.max() - x.min()) for x in (a, b))
    window = torch.ones((), dtype=a.dtype)
    for size in a.shape:
        side = min(11, max((size + 1) // 2, min(size, 2)))
        at = torch.arange(side, dtype=a.dtype) - (side - 1) / 2
        weights = torch.exp(-at.square() / (2 * 1.5**2))
        window = window[..., None] * weights / weights.sum()
    slide = {2: functional.conv2d, 3: functional.conv3d}[a.ndim]

    def mean(x):
        return slide(x[None, None], window[None, None])

    va, vb = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
    cov = mean(a * b) - mean(a) * mean(b)
    light = (2 * mean(a) * mean(b) + 1e-4) / (mean(a) ** 2 + mean(b) ** 2 + 1e-4)
    return (light * (2 * cov + 9e-4) / (va + vb + 9e-4)).mean()


def upsampled(a, size):
    mode = {2: "bilinear", 3: "trilinear"}[a.ndim]
    return functional.interpolate(a[None, None], size, mode=mode)[0, 0]


CHOICES = {
    "attached": {"mask": "deviation", "detach_mask": False},
    "detached": {"mask": "deviation", "detach_mask": True},
    "squashed": {"preset": "reference"},
    "upsampled": {"matching": "grad_cam_upsampled", "correlation": "ssim"},
}
"""Keywords of the loss for everything that `correlations` computes."""


def correlations(monkeypatch, model, image, place, cells, names):
    """Give h(A_1, A_2) of one image `[1, channel, *grid]` for each of the choices."""
    first, chosen = grad_cam(model, image, lambda y: int(y.argmax()), place, cells)
    second = guided_backprop(monkeypatch, model, image, chosen)

    def again(p):
        return grad_cam(model, p[None, None] * image, lambda _: chosen, place, cells)[0]

    compute = {
        "attached": lambda: pearson(first, again(deviation(second))),
        "detached": lambda: pearson(first, again(deviation(second.detach()))),
        "squashed": lambda: pearson(*(deviation(a) for a in (first, again(reference(second))))),
        "upsampled": lambda: ssim(upsampled(first, second.shape), second),
    }
    return [compute[name]() for name in names]


def loss_and_gradients(monkeypatch, model, images, place, cells=(), names=tuple(CHOICES)):
    """Give minus the mean correlation and its gradients, for each choice; float64, evaluation."""
    parameters = dict(model.named_parameters())
    values = torch.zeros(len(names), dtype=images.dtype)
    sums = {name: [0.0] * len(parameters) for name in names}
    with monkeypatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        patch.setattr(functional, "hardsigmoid", lambda x, inplace=False: (x / 6 + 0.5).clamp(0, 1))
        for image in images:
            found = correlations(monkeypatch, model, image[None], place, cells, names)
            for index, name in enumerate(names):
                values[index] -= found[index].detach() / len(images)
                with monkeypatch.context() as plain:
                    plain.setattr(Rule, "guided", False)
                    gradients = torch.autograd.grad(
                        found[index],
                        [*parameters.values()],
                        retain_graph=True,
                        materialize_grads=True,
                    )
                for at, gradient in enumerate(gradients):
                    sums[name][at] = sums[name][at] - gradient / len(images)
    return {
        name: (values[index], dict(zip(parameters, sums[name], strict=True)))
        for index, name in enumerate(names)
    }
