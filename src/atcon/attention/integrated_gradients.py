"""Integrated Gradients (Sundararajan et al., 2017): the gradient along the way from a baseline."""

import torch
from torch import Tensor

from atcon.attention.gradient import input_gradient
from atcon.attention.method import Attention
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, Images, Maps


def integrated_gradients_of(
    run: Trace,
    classes: Classes,
    *,
    create_graph: bool = False,
    steps: int = 32,
    baseline: float | Tensor = 0.0,
) -> Maps:
    """Integrate the gradient from a baseline b to x: A = sum over channels of (x - b) mean dy_c/dx.

    The trapezoid rule takes one pass at each of its points. Without `create_graph` each is freed
    before the next. As steps grow, the sum of a map tends to y_c(x) - y_c(b) (completeness).

    Args:
        run: A forward pass; it serves as the last point.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.
        steps: Intervals of the trapezoid rule, at least 1; the literature takes 20 or more.
        baseline: A value, one image or one image per sample; 0 is the mean colour.

    Returns:
        One signed map per image at the input's resolution, in units of the logit.

    Raises:
        InputError: There are no steps, or the baseline has another shape than the images.
    """
    if steps < 1:
        raise InputError(f"steps must be 1 or more, but it is {steps}")
    images = in_single_precision(run.input(create_graph=create_graph))
    start = _like(images, baseline)
    way = images - start
    total = input_gradient(run, classes, create_graph=create_graph) / (2 * steps)
    for step in range(steps):
        share = 1 / steps if step else 1 / (2 * steps)
        point = (start + way * (step / steps)).to(run.images.dtype)
        total = total + share * gradient_at(run, point, classes, create_graph=create_graph)
    return (way * total).sum(dim=1)


def gradient_at(run: Trace, images: Images, classes: Classes, *, create_graph: bool) -> Images:
    """Give dy_c/dx at other images, of a pass that ends with this call."""
    return input_gradient(run.again(images), classes, create_graph=create_graph)


def _like(images: Images, baseline: float | Tensor) -> Images:
    start = torch.as_tensor(baseline, dtype=images.dtype, device=images.device)
    if start.ndim and start.shape not in (images.shape, images.shape[1:]):
        raise InputError(
            f"baseline must be a number, one image {tuple(images.shape[1:])} or one per sample "
            f"{tuple(images.shape)}, but it is {tuple(start.shape)}"
        )
    return start.expand_as(images)


integrated_gradients = Attention(
    integrated_gradients_of,
    "Integrated Gradients",
    "Sundararajan et al., 2017",
    resolution="input",
)
