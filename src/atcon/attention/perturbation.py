"""Score many perturbed copies of the images: what RISE and occlusion have in common."""

from collections.abc import Iterator

from torch import Tensor

from atcon.attention.target import selected
from atcon.attention.trace import Trace, in_single_precision
from atcon.errors import InputError
from atcon.types import Classes, Images, Logits

PER_PASS = 32
"""Perturbed images in one forward pass."""


def masked_scores(
    run: Trace,
    classes: Classes,
    masks: Iterator[Tensor],
    filling: Images | None = None,
    *,
    score: str = "logit",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blend the images with a filling and score them, one chunk of masks in each forward pass.

    Args:
        run: A forward pass of the images.
        classes: The class to score, one for each image, or class weights.
        masks: Chunks `[mask, *grid]`; 1 keeps a pixel, 0 replaces it.
        filling: What replaces a pixel, as the images; None for 0, the mean colour.
        score: "logit", "softmax" or "sigmoid": what of the class is taken.

    Yields:
        Each chunk of masks and its scores `[mask, batch]`.
    """
    images = run.images.detach()
    for chunk in masks:
        keep = chunk[:, None, None].to(images.dtype)
        blended = keep * images
        if filling is not None:
            blended = blended + (1 - keep) * filling.to(images.dtype)
        logits = run.score(blended.flatten(0, 1))
        repeated = classes.repeat(len(chunk), *(1,) * (classes.ndim - 1))
        yield chunk, class_scores(logits, repeated, score).view(len(chunk), len(images))


def class_scores(logits: Logits, classes: Classes, score: str) -> Tensor:
    """Give the logit or probability of what was chosen, in float32 at least.

    Raises:
        InputError: There is no such score.
    """
    logits = in_single_precision(logits)
    if score == "softmax":
        logits = logits.softmax(dim=1)
    elif score == "sigmoid":
        logits = logits.sigmoid()
    elif score != "logit":
        raise InputError(f"score must be 'logit', 'softmax' or 'sigmoid', but it is {score!r}")
    return selected(logits, classes)


def chunk_length(batch: int, images: int) -> int:
    """Give the masks that one forward pass can take.

    Raises:
        InputError: A pass would hold no image.
    """
    if batch < 1:
        raise InputError(f"batch must be 1 or more, but it is {batch}")
    return max(1, batch // images)


def per_axis(value: int | tuple[int, ...], grid: tuple[int, ...], what: str) -> list[int]:
    """Give one positive number for each axis of the grid.

    Raises:
        InputError: There are not as many numbers as axes, or one is below 1.
    """
    values = [value] * len(grid) if isinstance(value, int) else list(value)
    if len(values) != len(grid) or min(values) < 1:
        raise InputError(
            f"{what} must be one number, or one for each of the {len(grid)} axes, of 1 or more, "
            f"but it is {value!r}"
        )
    return values
