"""The gradient at the input (Simonyan et al., 2014), alone and times the input."""

from atcon.attention.method import Attention
from atcon.attention.trace import Trace, in_single_precision
from atcon.types import Classes, Images, Maps


def gradient_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> Maps:
    """Give the plain gradient at the input: A = sum over channels of |dy_c/dx|.

    Args:
        run: A forward pass.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One map per image at the input's resolution, in units of the logit per unit of input.

    Raises:
        InputError: The score does not depend on the images.
    """
    return input_gradient(run, classes, create_graph=create_graph).abs().sum(dim=1)


def gradient_times_input_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> Maps:
    """Give each pixel's share of the logit, linearised: A = sum over channels of x dy_c/dx.

    Args:
        run: A forward pass.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One signed map per image at the input's resolution, in units of the logit.

    Raises:
        InputError: The score does not depend on the images.
    """
    gradient = input_gradient(run, classes, create_graph=create_graph)
    return (in_single_precision(run.input(create_graph=create_graph)) * gradient).sum(dim=1)


def input_gradient(run: Trace, classes: Classes, *, create_graph: bool) -> Images:
    """Give dy_c/dx of every image, in float32 at least."""
    (gradient,) = run.gradients(classes, [run.images], create_graph=create_graph)
    return in_single_precision(gradient)


gradient = Attention(
    gradient_of, "Gradient", "Simonyan et al., 2014", resolution="input", signed=False
)
gradient_times_input = Attention(
    gradient_times_input_of,
    "Gradient x input",
    "Shrikumar et al., 2016",
    resolution="input",
)
