"""Guided Backpropagation (Springenberg et al., 2015), Eq. 5 of the paper."""

from torch import nn

from atcon.attention.coverage import refuse_unguided
from atcon.attention.method import Attention
from atcon.attention.trace import Trace, in_single_precision, trace
from atcon.types import Classes, Images, Maps


def guided_backprop_of(run: Trace, classes: Classes, *, create_graph: bool = False) -> Maps:
    """Give the gradient of the class score at the input; activations pass positive gradients only.

    A ReLU passes g 1[x > 0] 1[g > 0] of a gradient g (Eq. 5), any activation act'(x) max(g, 0).

    Args:
        run: A forward pass of a network whose activations can be guided.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.

    Returns:
        One map per image at the input's resolution: the sum over channels of absolute values, in
        units of the logit per unit of input.

    Raises:
        InputError: No activation could be guided, or scripted parts hide theirs; a plain gradient
            is never returned in its place.
    """
    refuse_unguided(run)
    (gradient,) = run.gradients(classes, [run.images], create_graph=create_graph, guided=True)
    return in_single_precision(gradient).abs().sum(dim=1)


def count_guided(model: nn.Module, images: Images) -> int:
    """Count the activations that the guided rule reaches in one forward pass."""
    return trace(model, images[:1]).rule.guided


guided_backprop = Attention(
    guided_backprop_of,
    "Guided Backpropagation",
    "Springenberg et al., 2015; Eq. 5",
    resolution="input",
    signed=False,
    guided=True,
)
