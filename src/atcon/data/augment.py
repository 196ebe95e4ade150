"""Augmentation of a batch; every draw comes from the generator given, so a run can be resumed.

The paper: rotation by up to 10 degrees, and a horizontal or vertical flip with 50 %; for video,
colours, crops and a mirror. One draw holds for all frames of a clip.
"""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from atcon.data.views import VIEWS

PixelBatch = UInt8[Tensor, "image 3 *frames height width"]
Augmentation = Callable[[PixelBatch, Generator], PixelBatch]

MAX_DEGREES = 10.0


def unchanged(pixels: PixelBatch, generator: Generator) -> PixelBatch:
    """Leave the batch as it is."""
    del generator
    return pixels


def rotate(pixels: PixelBatch, generator: Generator) -> PixelBatch:
    """Turn every image by its own angle in +-10 degrees, bilinear; new corners are black."""
    angles = (2 * torch.rand(len(pixels), generator=generator) - 1) * MAX_DEGREES
    turned = [
        v2.rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
        for image, angle in zip(pixels, angles.tolist(), strict=True)
    ]
    return torch.stack(turned) if turned else pixels


def rotate_and_mirror(pixels: PixelBatch, generator: Generator) -> PixelBatch:
    """Rotate, and mirror left and right with probability 1/2."""
    turned = rotate(pixels, generator)
    mirrored = _one_each(pixels, generator) < 0.5
    return torch.where(mirrored, turned.flip(-1), turned)


def rotate_and_flip(pixels: PixelBatch, generator: Generator) -> PixelBatch:
    """Rotate, and flip with probability 1/2, then horizontally or vertically alike (the paper)."""
    turned = rotate(pixels, generator)
    draw = _one_each(pixels, generator)
    flipped = torch.where(draw < 0.25, turned.flip(-1), turned.flip(-2))
    return torch.where(draw < 0.5, flipped, turned)


def _one_each(pixels: PixelBatch, generator: Generator) -> Tensor:
    """Draw one number in [0, 1) for each sample, which its pixels broadcast with."""
    draw = torch.rand(len(pixels), generator=generator).to(pixels.device)
    return draw.view(-1, *[1] * (pixels.ndim - 1))


AUGMENTATIONS: dict[str, Augmentation] = {
    "paper": rotate_and_flip,
    "horizontal": rotate_and_mirror,
    "rotation": rotate,
    "clip": VIEWS["clip"],
    "none": unchanged,
}
"""By name; "rotation" is for digits and text, "horizontal" for photographs with an up and a down,
"clip" what the paper does with video.

Pixels stay uint8, and boxes are untouched: the images that boxes are used on are not augmented.
"""
