"""Every loss of table 4 on one batch, for watching a training that uses none of them."""

from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import attention_named, choose_classes, trace, without_autocast
from atcon.attention.borrow import with_gradients
from atcon.consistency.choices import Method
from atcon.consistency.correlation import CORRELATIONS
from atcon.consistency.masks import squashed
from atcon.consistency.matching import MATCHINGS, Matching, upsampled
from atcon.consistency.stochastic import mask_of
from atcon.types import Images

MONITORED: tuple[str, ...] = (
    "grad_cam_upsampled",
    "guided_backprop_pooled",
    "guided_backprop_mask",
    "grad_cam_mask",
)
"""The rows of table 4, from top to bottom: names of `MATCHINGS`. Its columns are `CORRELATIONS`."""

_Pair = tuple[Tensor, Tensor]


@with_gradients()
def monitored_losses(
    model: nn.Module, images: Images, layer: nn.Module, method: Method
) -> dict[tuple[str, str], Float[Tensor, " batch"]]:
    """Give L_A of every image, for each matching and each correlation of table 4.

    These are the values of twelve `ConsistencyLoss`es (lower is better). One traced pass serves
    both maps of the images, and each of the two masks takes one more: three instead of eighteen.

    Args:
        model: Left as it was.
        images: A normalised batch.
        layer: What Grad-CAM explains.
        method: The form of the mask, its options and `squash`; its own matching, maps and
            correlation are not looked at, and mirroring holds for the two that mask.

    Returns:
        Values without a graph, by (matching, correlation).
    """
    plain = trace(model, images, layer)
    classes = choose_classes(plain.logits)
    names = dict.fromkeys(name for row in MONITORED for name in MATCHINGS[row].maps or ())
    maps = {name: attention_named(name).map(plain, classes) for name in names}

    def masked(measured: str, by: str) -> _Pair:
        with without_autocast(images.device):
            fine = upsampled(maps[by], tuple(images.shape[2:]))
            p = mask_of(fine, method.mask, method.mask_options)
            seen = method.seen(p[:, None].to(images.dtype) * images)
        again = attention_named(measured).map(plain.again(seen), classes)
        return maps[measured], method.seen(again)

    found = {}
    for row in MONITORED:
        matching: Matching = MATCHINGS[row]
        first, second = matching.maps or ()
        by_mask = matching.by == "mask"
        pair = masked(first, second) if by_mask else matching.match(maps[first], maps[second])
        with without_autocast(images.device):
            pair = (squashed(pair[0]), squashed(pair[1])) if method.squash else pair
            for name, correlation in CORRELATIONS.items():
                found[row, name] = -correlation(*pair).detach()
    return found
