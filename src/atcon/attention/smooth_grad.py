"""SmoothGrad (Smilkov et al., 2017): the mean of the gradients at noisy copies of the input."""

import torch

from atcon.attention.integrated_gradients import gradient_at
from atcon.attention.method import Attention
from atcon.attention.noise import normal, source_of
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, Maps


def smooth_grad_of(
    run: Trace,
    classes: Classes,
    *,
    create_graph: bool = False,
    samples: int = 25,
    noise: float = 0.15,
    generator: torch.Generator | None = None,
) -> Maps:
    """Average the gradient over noise: A = sum over channels of |mean of dy_c/dx at x + noise|.

    All images of a batch get the same noise, each scaled to its own range. Without `create_graph`
    each pass is freed before the next.

    Args:
        run: A forward pass.
        classes: The class to explain, one for each image; the noise does not change it.
        create_graph: Whether the map can be differentiated with respect to the weights.
        samples: Noisy copies of each image, at least 1.
        noise: Standard deviation, as a fraction of each image's range (max - min).
        generator: Where the noise comes from; None draws the same noise at every call.

    Returns:
        One map per image at the input's resolution, in units of the logit per unit of input.

    Raises:
        InputError: There are no samples, the noise is negative, or the score does not depend on the
            images.
    """
    if samples < 1 or noise < 0:
        raise InputError(
            f"samples must be 1 or more and noise 0 or more, but they are {samples} and {noise}"
        )
    images, source = in_single_precision(run.input(create_graph=create_graph)), source_of(generator)
    flat = images.flatten(1)
    scale = (noise * (flat.amax(dim=1) - flat.amin(dim=1))).view(-1, *(1,) * (images.ndim - 1))
    total = torch.zeros_like(images)
    for _ in range(samples):
        noisy = images + scale * normal(images.shape[1:], source, images)
        noisy = noisy.to(run.images.dtype)
        total = total + gradient_at(run, noisy, classes, create_graph=create_graph)
    return (total / samples).abs().sum(dim=1)


smooth_grad = Attention(
    smooth_grad_of, "SmoothGrad", "Smilkov et al., 2017", resolution="input", signed=False
)
