"""LayerCAM (Jiang et al., 2021): every position of every feature map has its own weight."""

from atcon.attention.method import Attention
from atcon.attention.trace import Trace
from atcon.types import Classes, LayerMaps


def layer_cam_of(
    run: Trace, classes: Classes, *, create_graph: bool = False, relu: bool = False
) -> LayerMaps:
    """Weight the layer's feature maps by their positive gradients: A = sum_k max(dy_c/df_k, 0) f_k.

    Args:
        run: A forward pass traced with its layer.
        classes: The class to explain, one for each image.
        create_graph: Whether the map can be differentiated with respect to the weights.
        relu: Keep positive evidence only, as published; it changes nothing after an activation
            that is never negative.

    Returns:
        One map per image at the layer's resolution, in units of the logit.

    Raises:
        InputError: The pass has no layer, or the score does not depend on it.
    """
    features, gradients = run.layer(classes, create_graph=create_graph)
    maps = (gradients.relu() * features).sum(dim=1)
    return maps.relu() if relu else maps


layer_cam = Attention(layer_cam_of, "LayerCAM", "Jiang et al., 2021")
