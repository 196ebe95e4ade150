"""Views of images and clips for contrastive and pseudo-label training, drawn from a generator.

SimCLR (Chen et al., ICML 2020, appendix A): random resized crop, mirror, colour jitter, greyscale,
blur. A view of a clip is one draw for all of its frames.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as v2

from atcon.errors import InputError

ViewPixels = UInt8[Tensor, "batch 3 *frames height width"]
Sample = UInt8[Tensor, "3 *frames height width"]
Planes = UInt8[Tensor, "3 height width"]
Range = tuple[float, float]

_ADJUST = (v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation, v2.adjust_hue)
_CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
_CUTOUT_GREY = 127


@dataclass(frozen=True)
class ViewOptions:
    """What a view may change, and how much; call it like an augmentation.

    An option of 0 is off. Variants are made with `dataclasses.replace`: text and digits, which are
    no longer themselves in a mirror, need `flip=0`.

    Attributes:
        crop: Share of the area that the random resized crop keeps, from and to; (1, 1) is off.
        stretch: How much wider than high the crop may be, in units of the image's own shape.
        flip: Probability of a horizontal mirror.
        jitter: Strengths s of brightness, contrast, saturation (factors in [1-s, 1+s], from 0) and
            hue (a shift in [-s, s] of the colour circle), in an order drawn too. Without hue the
            slow conversion to HSV is left out.
        jitter_share: Probability that colours are jittered at all.
        grey: Probability of greyscale.
        blur: Probability of a Gaussian blur.
        sigma: Its standard deviation in pixels, from and to.
        cutout: Largest side of a grey square, in units of the image's sides.
    """

    crop: Range = (1.0, 1.0)
    stretch: Range = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_share: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    sigma: Range = (0.1, 2.0)
    cutout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "jitter_share", "grey", "blur", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], but it is {getattr(self, name)}")
        for name, highest in (("crop", 1.0), ("stretch", math.inf), ("sigma", math.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= highest:
                raise InputError(
                    f"{name} must go from a number above 0 to one no smaller, at most {highest}, "
                    f"but it is ({low}, {high})"
                )
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise InputError(
                "jitter is brightness, contrast, saturation and hue, none below 0 and hue at most "
                f"0.5, but it is {self.jitter}"
            )

    def __call__(self, pixels: ViewPixels, generator: Generator) -> ViewPixels:
        """Give one view of each sample; see `draw_views`."""
        return draw_views(pixels, generator, self)


class _Draw(NamedTuple):
    """One sample's view: a window, what happens to its colours, and where it is hidden."""

    window: tuple[int, int, int, int]
    mirrored: bool
    adjustments: tuple[tuple[int, float], ...]
    grey: bool
    sigma: float | None
    hole: tuple[slice, slice] | None


def draw_views(pixels: ViewPixels, generator: Generator, options: ViewOptions) -> ViewPixels:
    """Give one view of each sample, in the size of the batch.

    Args:
        pixels: `[batch, 3, height, width]` images or `[batch, 3, frame, height, width]` clips.
        generator: On the CPU. One draw for each sample, which its pixels have no part in; all
            frames of a clip share it, and contrast is measured over the whole clip, so that one
            colour stays one colour over the frames.
        options: A preset of `VIEWS`, or your own.

    Raises:
        InputError: The pixels are no such batch of bytes.
    """
    if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or pixels.dtype != torch.uint8:
        raise InputError(
            "views are made of uint8 pixels [batch, 3, height, width] or [batch, 3, frame, height, "
            f"width], but these are {pixels.dtype} {list(pixels.shape)}"
        )
    height, width = pixels.shape[-2:]
    draws = [_draw(options, height, width, generator) for _ in range(len(pixels))]
    views = [_apply(draw, sample) for draw, sample in zip(draws, pixels, strict=True)]
    return torch.stack(views) if views else pixels


def _draw(options: ViewOptions, height: int, width: int, generator: Generator) -> _Draw:
    return _Draw(
        window=_draw_window(options, height, width, generator),
        mirrored=_uniform(0, 1, generator) < options.flip,
        adjustments=_draw_adjustments(options, generator),
        grey=_uniform(0, 1, generator) < options.grey,
        sigma=(
            _uniform(*options.sigma, generator)
            if _uniform(0, 1, generator) < options.blur
            else None
        ),
        hole=_draw_hole(options.cutout, height, width, generator) if options.cutout else None,
    )


def _draw_window(
    options: ViewOptions, height: int, width: int, generator: Generator
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop; the whole image where none fits into it."""
    low, high = (math.log(bound) for bound in options.stretch)
    attempts = 0 if options.crop == (1, 1) else _CROP_ATTEMPTS  # rounding could make it smaller
    for _ in range(attempts):
        area = _uniform(*options.crop, generator)
        stretch = math.exp(_uniform(low, high, generator))
        rows = round(height * math.sqrt(area / stretch))
        columns = round(width * math.sqrt(area * stretch))
        if 0 < rows <= height and 0 < columns <= width:
            top = math.floor(_uniform(0, height - rows + 1, generator))
            return top, math.floor(_uniform(0, width - columns + 1, generator)), rows, columns
    return 0, 0, height, width


def _draw_adjustments(options: ViewOptions, generator: Generator) -> tuple[tuple[int, float], ...]:
    """Draw which of `_ADJUST` are made, in their order, and how far."""
    order = torch.randperm(len(_ADJUST), generator=generator).tolist()
    lows = [max(0.0, 1 - strength) for strength in options.jitter[:3]] + [-options.jitter[3]]
    highs = [1 + strength for strength in options.jitter[:3]] + [options.jitter[3]]
    factors = [_uniform(low, high, generator) for low, high in zip(lows, highs, strict=True)]
    if _uniform(0, 1, generator) >= options.jitter_share:
        return ()
    return tuple((index, factors[index]) for index in order if options.jitter[index])


def _draw_hole(
    largest: float, height: int, width: int, generator: Generator
) -> tuple[slice, slice]:
    """Draw a square whose centre is in the image, cut off at the image's edges."""
    half = _uniform(0, largest, generator) / 2
    rows, columns = (
        slice(max(0, round((centre - half) * side)), round((centre + half) * side))
        for side in (height, width)
        for centre in (_uniform(0, 1, generator),)
    )
    return rows, columns


def _uniform(low: float, high: float, generator: Generator) -> float:
    share = torch.rand((), generator=generator, dtype=torch.float64).item()  # in [0, 1)
    return low + (high - low) * share


def _apply(draw: _Draw, sample: Sample) -> Sample:
    """Make the view that was drawn: crop, mirror, jitter, greyscale, blur, cutout."""
    height, width = sample.shape[-2:]
    frames = sample.reshape(3, -1, height, width)
    if draw.window != (0, 0, height, width):
        first = frames.transpose(0, 1)  # torchvision resizes three bytes at once, not T
        frames = v2.resized_crop(first, *draw.window, [height, width]).transpose(0, 1)
    if draw.mirrored:
        frames = frames.flip(-1)
    tall = _recolour(draw, frames.reshape(3, -1, width))  # one image, so one contrast for a clip
    frames = tall.reshape(3, -1, height, width)
    if draw.sigma is not None:
        frames = _blurred(frames, draw.sigma)
    if draw.hole is not None:
        frames = frames.clone()
        frames[..., draw.hole[0], draw.hole[1]] = _CUTOUT_GREY
    return frames.reshape(sample.shape)


def _recolour(draw: _Draw, planes: Planes) -> Planes:
    for index, factor in draw.adjustments:
        planes = _ADJUST[index](planes, factor)
    return v2.rgb_to_grayscale(planes, 3) if draw.grey else planes


def _blurred(frames: Tensor, sigma: float) -> Tensor:
    """Blur along one axis and then the other: some five times as fast as torchvision's square."""
    height, width = frames.shape[-2:]
    blurred = frames.float()
    for axis, side in enumerate((width, height)):
        radius = min(math.ceil(3 * sigma), side - 1)  # the mirrored border has one pixel less
        kernel = [1, 1]
        kernel[axis] = 2 * radius + 1
        blurred = v2.gaussian_blur(blurred, kernel, [sigma, sigma])
    return blurred.round_().clamp_(0, 255).to(torch.uint8)


VIEWS: dict[str, ViewOptions] = {
    "simclr": ViewOptions(
        crop=(0.08, 1.0),
        flip=0.5,
        jitter=(0.8, 0.8, 0.8, 0.2),
        jitter_share=0.8,
        grey=0.2,
        blur=0.5,
    ),
    "weak": ViewOptions(crop=((7 / 8) ** 2, 1.0), stretch=(1.0, 1.0), flip=0.5),
    "strong": ViewOptions(
        crop=(0.5, 1.0),
        flip=0.5,
        jitter=(0.8, 0.8, 0.8, 0.2),
        jitter_share=0.8,
        grey=0.2,
        blur=0.5,
        cutout=0.5,
    ),
    "clip": ViewOptions(
        crop=(0.9**2, 0.9**2), stretch=(1.0, 1.0), flip=0.5, jitter=(0.8, 0.8, 0.8, 0.4)
    ),
}
"""By name: "simclr" as its authors for ImageNet; "weak" and "strong" for FixMatch, after its mirror
and shift by an eighth, and with SimCLR's colours and a cutout in place of its random policy; "clip"
is the paper's hospital video: jitter 0.8/0.8/0.8/0.4, crops of 90 % in x and y, mirror.
"""
