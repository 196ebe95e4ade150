"""HiResCAM (Draelos and Carin, 2020): Grad-CAM without the mean over positions."""

from atcon.attention.method import Attention
from atcon.attention.trace import Trace
from atcon.types import Classes, LayerMaps


def hires_cam_of(
    run: Trace, classes: Classes, *, create_graph: bool = False, relu: bool = False
) -> LayerMaps:
    """Multiply the layer's feature maps by their gradients: A = sum_k dy_c/df_k f_k.

    Args:
        run: A forward pass traced with its layer.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.
        relu: Keep positive evidence only, as other libraries do.

    Returns:
        One signed map per image at the layer's resolution, in units of the logit. Where only linear
        layers follow, its sum is the logit without the bias.

    Raises:
        InputError: The pass has no layer, or the score does not depend on it.
    """
    features, gradients = run.layer(classes, create_graph=create_graph)
    maps = (gradients * features).sum(dim=1)
    return maps.relu() if relu else maps


hires_cam = Attention(hires_cam_of, "HiResCAM", "Draelos and Carin, 2020")
