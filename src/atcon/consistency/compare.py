"""Algorithm 1: mask the input with one map, compute the other again, correlate the two."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import choose_classes, grad_cam, guided_backprop, trace, without_autocast
from atcon.attention.borrow import recordable, with_gradients
from atcon.consistency.correlation import Correlation, pearson
from atcon.consistency.masks import Mask, squashed
from atcon.types import Classes, Images, LayerMaps, Logits, Maps, Target


@dataclass(frozen=True)
class Comparison:
    """The maps of one batch and how well they agree.

    Attributes:
        logits: `[batch, class]` of the unmasked images.
        classes: The class that every map explains, chosen on the unmasked images.
        first: Grad-CAM of the images.
        guided: Guided Backpropagation of the images.
        mask: P, at the images' resolution.
        second: Grad-CAM of the masked images, for the same class.
        correlation: Agreement of `first` and `second`, one value per image.
        activations: How many activations the guided rule reached.
    """

    logits: Logits
    classes: Classes
    first: LayerMaps
    guided: Maps
    mask: Maps
    second: LayerMaps
    correlation: Float[Tensor, " batch"]
    activations: int


@with_gradients()
def compare(
    model: nn.Module,
    images: Images,
    layer: nn.Module,
    mask: Mask,
    *,
    correlation: Correlation = pearson,
    detach_mask: bool = False,
    squash: bool = False,
    target: Target = None,
    create_graph: bool = False,
) -> Comparison:
    """Run Algorithm 1 on a batch, with two forward passes.

    Args:
        model: Any convolutional network with ReLUs; left as it was.
        images: A normalised batch; the mask multiplies it, so masked pixels go to the mean colour.
        layer: The layer that Grad-CAM explains.
        mask: From the guided map to P.
        correlation: Between the two Grad-CAM maps.
        detach_mask: Whether P is a constant for the gradient.
        squash: Whether both maps are standardised and squashed before they are correlated.
        target: The class to explain; None for the top predicted one.
        create_graph: Whether the correlation can be differentiated with respect to the weights.
    """
    images = recordable(images)
    plain = trace(model, images, layer)
    classes = choose_classes(plain.logits, target)
    first = grad_cam.map(plain, classes, create_graph=create_graph)
    guided = guided_backprop.map(plain, classes, create_graph=create_graph and not detach_mask)
    logits = plain.logits if create_graph else plain.logits.detach()
    activations, folds = plain.rule.guided, plain.folds
    with without_autocast(images.device):
        p = mask(guided)
        masked_images = p[:, None].to(images.dtype) * images
    del plain  # without a graph to keep, its activations are freed before the second pass
    masked = trace(model, masked_images, layer, folds=folds)
    second = grad_cam.map(masked, classes, create_graph=create_graph)
    with without_autocast(images.device):
        pair = (squashed(first), squashed(second)) if squash else (first, second)
        agreement = correlation(*pair)
    return Comparison(logits, classes, first, guided, p, second, agreement, activations)


def mask_contrast(masks: Maps) -> Float[Tensor, " batch"]:
    """Standard deviation of each P over its positions: near 0, the mask masks nothing."""
    flat = masks.flatten(1)
    return flat.std(dim=1) if flat.shape[1] > 1 else flat.new_zeros(len(flat))


def entropy(maps: Maps) -> Float[Tensor, " batch"]:
    """Entropy of each map, rescaled to [0, 1] and summed to one: 1 is flat, 0 is a single point."""
    flat = maps.flatten(1)
    low = flat.amin(dim=1, keepdim=True)
    span = flat.amax(dim=1, keepdim=True) - low
    flat = torch.where(span > 0, (flat - low) / torch.where(span > 0, span, 1), 1)
    share = flat / flat.sum(dim=1, keepdim=True)
    positions = max(flat.shape[1], 2)
    result: Tensor = torch.special.entr(share).sum(dim=1) / math.log(positions)
    return result


def between_images(maps: Maps) -> Float[Tensor, ""]:
    """Mean correlation between the maps of different images: near 1, the maps have collapsed."""
    count = len(maps)
    if count < 2:
        return torch.tensor(torch.nan)
    left, right = torch.triu_indices(count, count, offset=1)
    return pearson(maps[left], maps[right]).mean()
